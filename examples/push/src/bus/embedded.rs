//! The bus of a service that is one process: the history is the node's own.

use crate::bus::{Bus, Page, Place};
use crate::protocol::{Member, Refusal};
use crate::service::Service;

/// Everything is here.
pub struct Embedded;

impl Bus for Embedded {
    fn publish(
        &self,
        service: &Service,
        channel: &str,
        key: Option<&str>,
        data: &str,
    ) -> Result<Place, Refusal> {
        let config = service.config();
        let channel = service.channels.open(&config, channel)?;
        let (epoch, offset) = channel.publish(&config, key, data)?;
        Ok(Place { epoch, offset })
    }

    fn history(
        &self,
        service: &Service,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let channel = service.channels.open(&service.config(), channel)?;
        let (epoch, offset, texts) = channel.history(after, limit);
        let last = Place { epoch, offset };
        Ok(Page { last, texts })
    }

    fn members(&self, service: &Service, channel: &str) -> Result<Vec<Member>, Refusal> {
        let channel = service.channels.find(channel);
        Ok(channel.map_or_else(Vec::new, |channel| channel.members()))
    }
}
