//! Bus: what makes several nodes one service. It keeps the history, tells the nodes of
//! new messages, and knows who is where.

mod embedded;
mod redis;

use std::sync::Arc;
use std::{fmt, io};

use crate::channel::Channel;
use crate::config::Config;
use crate::protocol::{Member, Refusal, Since};
use crate::service::Service;
use tungstenite::Utf8Bytes;

/// The place of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which history.
    pub epoch: Arc<str>,
    /// Where in it.
    pub offset: u64,
}

/// Messages as subscribers get them.
pub struct Page {
    /// The newest message's place.
    pub last: Place,
    /// The oldest first.
    pub texts: Vec<Utf8Bytes>,
}

/// The calls may wait, in the coroutine of the connection that asks.
pub trait Bus: Send + Sync {
    /// Starts what runs beside the connections.
    fn begin(&self, _service: &Arc<Service>) -> io::Result<()> {
        Ok(())
    }

    /// Whether it can be asked, as far as is known.
    fn is_there(&self) -> bool {
        true
    }

    /// Somebody is about to subscribe: the channel, which has what all nodes have up to
    /// `since` at least, and is told of what comes.
    fn enter(
        &self,
        service: &Arc<Service>,
        channel: &str,
        member: &Member,
        since: Option<&Since>,
    ) -> Result<Arc<Channel>, Refusal>;

    /// Somebody is subscribed no more.
    fn leave(&self, channel: &str, member: &Member);

    /// Whether the node needs the channel no more.
    fn is_idle(&self, config: &Config, channel: &Channel) -> bool;

    /// The node has no such channel any more.
    fn forget(&self, channel: &Channel);

    /// Puts a message into the channel's history and has all subscribers told. One that
    /// has its key already is not added again.
    fn publish(
        &self,
        service: &Arc<Service>,
        channel: &str,
        key: Option<&str>,
        data: &str,
    ) -> Result<Place, Refusal>;

    /// The newest `limit` of the messages after `after`.
    fn history(
        &self,
        service: &Arc<Service>,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<Page, Refusal>;

    /// Who is subscribed, on all nodes.
    fn members(&self, service: &Arc<Service>, channel: &str) -> Result<Vec<Member>, Refusal>;
}

/// The one that the settings name.
pub fn open(config: &Config) -> Result<Box<dyn Bus>, String> {
    match config.bus.split("://").next() {
        Some("embedded") => Ok(Box::new(embedded::Embedded)),
        Some("redis") => Ok(Box::new(redis::Redis::new(config)?)),
        _ => Err(format!(
            "bus = {}: embedded or redis://HOST:PORT",
            config.bus
        )),
    }
}

/// Why something can't be done now. A message may be in the history or not; published
/// again with its key it is there once.
fn gone(why: impl fmt::Display) -> Refusal {
    Refusal::new("bus", format!("the bus: {why}"))
}
