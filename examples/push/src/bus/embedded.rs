//! The bus of a service that is one process: the history is the node's own.

use std::sync::Arc;

use crate::bus::{Bus, Page, Place};
use crate::channel::Channel;
use crate::config::Config;
use crate::protocol::{Member, Refusal, Since};
use crate::service::Service;

/// Everything is here.
pub struct Embedded;

impl Bus for Embedded {
    fn enter(
        &self,
        service: &Arc<Service>,
        channel: &str,
        _: &Member,
        _: Option<&Since>,
    ) -> Result<Arc<Channel>, Refusal> {
        service.channels.open(&service.config(), channel)
    }

    fn leave(&self, _: &str, _: &Member) {}

    fn is_idle(&self, config: &Config, channel: &Channel) -> bool {
        channel.sweep(config)
    }

    fn forget(&self, _: &Channel) {}

    fn publish(
        &self,
        service: &Arc<Service>,
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
        service: &Arc<Service>,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<Page, Refusal> {
        let channel = service.channels.open(&service.config(), channel)?;
        let (epoch, offset, texts) = channel.history(after, limit);
        let last = Place { epoch, offset };
        Ok(Page { last, texts })
    }

    fn members(&self, service: &Arc<Service>, channel: &str) -> Result<Vec<Member>, Refusal> {
        let channel = service.channels.find(channel);
        Ok(channel.map_or_else(Vec::new, |channel| channel.members()))
    }
}
