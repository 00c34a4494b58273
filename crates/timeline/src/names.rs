//! What each coroutine is called: its name, or the place where it was spawned.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;

use crore::{CoroutineId, StepWhat, Timeline};

pub(crate) struct Names(HashMap<CoroutineId, Arc<str>>);

impl Names {
    pub(crate) fn of(timeline: &Timeline) -> Self {
        let mut places = HashMap::new();
        let mut names = HashMap::new();
        for step in timeline.steps() {
            if let StepWhat::Spawned { name, place, .. } = &step.what {
                let at_place = || {
                    Arc::clone(
                        places
                            .entry(ptr::from_ref(*place))
                            .or_insert_with(|| place.to_string().into()),
                    )
                };
                names.insert(step.id, name.clone().unwrap_or_else(at_place));
            }
        }
        Self(names)
    }

    /// Of those that were spawned before the recording began only the id is known.
    pub(crate) fn get(&self, id: CoroutineId) -> &str {
        self.0.get(&id).map_or("(spawned before)", |name| name)
    }

    /// With its id.
    pub(crate) fn label(&self, id: CoroutineId) -> String {
        format!("{} ({id})", self.get(id))
    }
}
