#![doc = include_str!("../README.md")]

use std::any::TypeId;
use std::cell::RefCell;
use std::ptr;

use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::subscriber::Interest;
use tracing_core::{Event, LevelFilter, Metadata, Subscriber, dispatcher};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::FilterId;
use tracing_subscriber::registry::{LookupSpan, SpanData};

crore::coroutine_local! {
    /// The spans that this coroutine is in, the innermost last; on a plain thread the
    /// thread's. Each keeps its span.
    static ENTERED: RefCell<Vec<Id>> = RefCell::new(Vec::new());
}

/// A store of spans, as [`Registry`], in which each coroutine is in spans of its own.
///
/// Layers go on top, and it is best the default of the whole program (`init`): a default
/// for the time of a closure (`with_default`) is the thread's, so that other coroutines
/// meet it.
#[derive(Debug, Default)]
pub struct CoroutineRegistry(Registry);

/// An empty [`CoroutineRegistry`].
pub fn registry() -> CoroutineRegistry {
    CoroutineRegistry::default()
}

fn innermost() -> Option<Id> {
    ENTERED.with(|entered| entered.borrow().last().cloned())
}

impl Subscriber for CoroutineRegistry {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.0.register_callsite(metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        self.0.max_level_hint()
    }

    fn event_enabled(&self, event: &Event<'_>) -> bool {
        self.0.event_enabled(event)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        if !span.is_contextual() {
            return self.0.new_span(span);
        }
        // The registry would ask its thread.
        let (metadata, values) = (span.metadata(), span.values());
        self.0.new_span(&match innermost() {
            Some(parent) => Attributes::child_of(parent, metadata, values),
            None => Attributes::new_root(metadata, values),
        })
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.0.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.0.record_follows_from(span, follows);
    }

    fn event(&self, event: &Event<'_>) {
        self.0.event(event);
    }

    fn enter(&self, span: &Id) {
        let kept = self.0.clone_span(span);
        ENTERED.with(|entered| entered.borrow_mut().push(kept));
    }

    fn exit(&self, span: &Id) {
        let left = ENTERED.with(|entered| {
            let mut entered = entered.borrow_mut();
            let place = entered.iter().rposition(|one| one == span)?;
            Some(entered.remove(place))
        });
        // By way of the layers, which are to hear of it, and may enter spans.
        if let Some(span) = left {
            dispatcher::get_default(|dispatch| _ = dispatch.try_close(span.clone()));
        }
    }

    fn clone_span(&self, span: &Id) -> Id {
        self.0.clone_span(span)
    }

    fn try_close(&self, span: Id) -> bool {
        self.0.try_close(span)
    }

    fn current_span(&self) -> Current {
        let Some(id) = innermost() else {
            return Current::none();
        };
        match self.0.span_data(&id) {
            Some(data) => Current::new(id, data.metadata()),
            None => Current::none(),
        }
    }

    // Layers look for the registry below, to hold a span until all of them have heard of
    // its end.
    unsafe fn downcast_raw(&self, id: TypeId) -> Option<*const ()> {
        match id == TypeId::of::<Self>() {
            true => Some(ptr::from_ref(self).cast()),
            // SAFETY: the caller's promise.
            false => unsafe { self.0.downcast_raw(id) },
        }
    }
}

impl<'a> LookupSpan<'a> for CoroutineRegistry {
    type Data = <Registry as LookupSpan<'a>>::Data;

    fn span_data(&'a self, id: &Id) -> Option<Self::Data> {
        self.0.span_data(id)
    }

    fn register_filter(&mut self) -> FilterId {
        self.0.register_filter()
    }
}
