//! Bus: what makes several nodes one service. It keeps the history, tells the nodes of
//! new messages, and knows who is where.

mod embedded;

use std::sync::Arc;

pub use embedded::Embedded;

use crate::protocol::{Member, Refusal};
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
    /// Puts a message into the channel's history and has all subscribers told. One that
    /// has its key already is not added again.
    fn publish(
        &self,
        service: &Service,
        channel: &str,
        key: Option<&str>,
        data: &str,
    ) -> Result<Place, Refusal>;

    /// The newest `limit` of the messages after `after`.
    fn history(
        &self,
        service: &Service,
        channel: &str,
        after: u64,
        limit: usize,
    ) -> Result<Page, Refusal>;

    /// Who is subscribed, on all nodes.
    fn members(&self, service: &Service, channel: &str) -> Result<Vec<Member>, Refusal>;
}
