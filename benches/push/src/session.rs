//! Session: a WebSocket, in one task.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

use crate::Service;
use crate::channel::{Next, Subscription};
use crate::protocol::{Answer, Kind, Request};

/// As `examples/push` has them.
const READ: usize = 256;
const WRITE: usize = 4 << 10;
const FRAME: usize = 64 << 10;
const TURN: usize = 32;
const HEARTBEAT: Duration = Duration::from_secs(25);
const HANDSHAKE: Duration = Duration::from_secs(5);

struct Session {
    socket: WebSocketStream<TcpStream>,
    service: Arc<Service>,
    subscriptions: Vec<Arc<Subscription>>,
    news: UnboundedReceiver<Arc<Subscription>>,
    ready: UnboundedSender<Arc<Subscription>>,
}

pub async fn serve(socket: TcpStream, service: Arc<Service>, number: u64) {
    let limits = WebSocketConfig::default()
        .read_buffer_size(READ)
        .write_buffer_size(WRITE)
        .max_message_size(Some(FRAME))
        .max_frame_size(Some(FRAME));
    let opened = async {
        socket.set_nodelay(true)?;
        accept_async_with_config(socket, Some(limits)).await
    };
    // The handshake's state is not the session's.
    let Ok(Ok(socket)) = tokio::time::timeout(HANDSHAKE, Box::pin(opened)).await else {
        return;
    };
    let (ready, news) = unbounded_channel();
    let mut session = Session {
        socket,
        service,
        subscriptions: Vec::new(),
        news,
        ready,
    };
    // A client that is gone is no error of ours.
    let _ = session.run(number).await;
    for subscription in &session.subscriptions {
        subscription.end();
    }
}

impl Session {
    async fn run(&mut self, number: u64) -> Result<(), Error> {
        let client = format!("tokio-{number}");
        self.say(&Answer::Hello {
            node: "tokio",
            client: &client,
            heartbeat_ms: HEARTBEAT.as_millis() as u64,
        })
        .await?;
        self.socket.flush().await?;
        let (mut heard, mut pinged) = (Instant::now(), false);
        // Set anew when it fires, not with each message.
        let mut beat = pin!(tokio::time::sleep(HEARTBEAT));
        loop {
            tokio::select! {
                message = self.socket.next() => {
                    (heard, pinged) = (Instant::now(), false);
                    match message {
                        Some(Ok(Message::Text(text))) => self.answer(&text).await?,
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(why)) => return Err(why),
                    }
                    self.socket.flush().await?;
                }
                Some(first) = self.news.recv() => self.deliver(first).await?,
                () = &mut beat => {
                    if Instant::now() >= heard + HEARTBEAT * (1 + u32::from(pinged)) {
                        if pinged {
                            return Ok(());
                        }
                        pinged = true;
                        self.socket.send(Message::Ping(Default::default())).await?;
                    }
                    beat.as_mut().reset(heard + HEARTBEAT * (1 + u32::from(pinged)));
                }
            }
        }
    }

    async fn answer(&mut self, text: &str) -> Result<(), Error> {
        let request: Request = match serde_json::from_str(text) {
            Ok(request) => request,
            Err(why) => return self.refuse(None, &why.to_string()).await,
        };
        let (id, channel) = (request.id, request.channel.as_deref());
        match (request.r#type, channel, request.data) {
            (Kind::Ping, ..) => self.say(&Answer::Pong { id }).await,
            (Kind::Subscribe, Some(name), _) => {
                let channel = self.service.channels.open(name);
                let ready = self.ready.clone();
                let (one, offset, recovered) = channel.subscribe(ready, request.since.as_ref());
                self.subscriptions.push(one);
                self.say(&Answer::Subscribed {
                    id,
                    channel: name,
                    epoch: &channel.epoch,
                    offset,
                    recovered,
                })
                .await
            }
            (Kind::Publish, Some(name), Some(data)) => {
                let channel = self.service.channels.open(name);
                let offset = channel.publish(request.key.as_deref(), data.get());
                self.say(&Answer::Published {
                    id,
                    channel: name,
                    epoch: &channel.epoch,
                    offset,
                })
                .await
            }
            _ => self.refuse(Some(id), "something is missing").await,
        }
    }

    async fn refuse(&mut self, id: Option<u64>, reason: &str) -> Result<(), Error> {
        self.say(&Answer::Error {
            id,
            code: "malformed",
            reason,
        })
        .await
    }

    async fn deliver(&mut self, first: Arc<Subscription>) -> Result<(), Error> {
        let mut turns = 1 + self.news.len();
        let mut next = Some(first);
        while let Some(one) = next {
            self.send_news(&one).await?;
            turns -= 1;
            next = match turns {
                0 => None,
                _ => self.news.try_recv().ok(),
            };
        }
        self.socket.flush().await
    }

    async fn send_news(&mut self, one: &Arc<Subscription>) -> Result<(), Error> {
        one.taken();
        for _ in 0..TURN {
            match one.next() {
                Next::Message(text) => self.socket.feed(Message::Text(text)).await?,
                Next::Nothing => return Ok(()),
                Next::Missed { missed, offset } => {
                    let channel = &*one.channel.name;
                    self.say(&Answer::Lag {
                        channel,
                        missed,
                        offset,
                    })
                    .await?;
                }
            }
        }
        one.wake();
        Ok(())
    }

    async fn say(&mut self, answer: &Answer<'_>) -> Result<(), Error> {
        self.socket.feed(Message::text(answer.to_json())).await
    }
}
