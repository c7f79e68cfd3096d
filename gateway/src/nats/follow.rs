//! One subject that is followed apart from all routes, and which one it is may change.

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::NatsHandle;

impl NatsHandle {
    /// Gives on what is published on a subject, for as long as somebody takes it. `subject` says which one it is, from
    /// what is `watched`, each time that changes. The `greeting` is published there each time that it begins or that the
    /// connection comes back.
    pub async fn follow<T>(
        &self,
        mut watched: watch::Receiver<T>,
        subject: impl Fn(&mut watch::Receiver<T>) -> Option<Arc<str>>,
        greeting: &'static [u8],
        heard: mpsc::Sender<Bytes>,
    ) {
        let mut link = self.shared.link.watch();
        // There is a client from then on, which knows by itself what it is subscribed to when it comes back.
        if link.wait_for(|link| link.connected).await.is_err() {
            return;
        }
        let mut connects = link.borrow_and_update().connects;
        let mut followed: Option<Arc<str>> = None;
        let mut subscriber: Option<Subscriber> = None;
        loop {
            let wanted = subject(&mut watched);
            if wanted != followed || (wanted.is_some() && subscriber.is_none()) {
                subscriber = match &wanted {
                    Some(wanted) => self.subscribe(wanted).await,
                    None => None,
                };
                followed = wanted;
                self.greet(followed.as_ref(), greeting);
            }
            tokio::select! {
                changed = watched.changed() => if changed.is_err() {
                    return;
                },
                // The client subscribes again by itself, before what it is given to publish then.
                Ok(()) = link.changed() => {
                    let now = *link.borrow_and_update();
                    if now.connected && now.connects != connects {
                        connects = now.connects;
                        self.greet(followed.as_ref(), greeting);
                    }
                }
                message = next(&mut subscriber) => match message {
                    Some(payload) => if heard.send(payload).await.is_err() {
                        return;
                    },
                    // The client has ended, and the process is about to.
                    None => return,
                },
            }
        }
    }

    fn greet(&self, subject: Option<&Arc<str>>, greeting: &'static [u8]) {
        let Some(subject) = subject else { return };
        let published = self.try_publish(subject.clone(), Bytes::from_static(greeting));
        if let Err(error) = published {
            warn!(%subject, "cannot ask on the subject: {error}");
        }
    }

    async fn subscribe(&self, subject: &str) -> Option<Subscriber> {
        let client = self.shared.link.client()?;
        let subscribed = client.subscribe(subject.to_owned()).await;
        subscribed
            .inspect_err(|error| warn!(%error, subject, "cannot subscribe"))
            .ok()
    }
}

async fn next(subscriber: &mut Option<Subscriber>) -> Option<Bytes> {
    match subscriber {
        Some(subscriber) => subscriber.next().await.map(|message| message.payload),
        None => std::future::pending().await,
    }
}
