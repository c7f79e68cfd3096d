//! How a child shows that it is ready.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::local::http;

/// How often a child is asked.
const POLL: Duration = Duration::from_millis(25);

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How a child shows that it is ready.
#[derive(Debug, Clone)]
pub enum Ready {
    /// nats-server: a connection begins with an `INFO` line.
    NatsInfo(SocketAddr),
    /// The gateway: this path answers 200.
    Ok(SocketAddr, String),
    /// nginx: this path answers, whatever it says.
    Answers(SocketAddr, String),
}

impl Ready {
    /// Awaits that it is.
    pub(super) async fn reached(&self) {
        while !self.holds().await {
            tokio::time::sleep(POLL).await;
        }
    }

    async fn holds(&self) -> bool {
        let ask = async {
            match self {
                Self::NatsInfo(address) => {
                    let mut greeting = [0; 5];
                    let mut stream = TcpStream::connect(address).await.ok()?;
                    stream.read_exact(&mut greeting).await.ok()?;
                    (&greeting == b"INFO ").then_some(())
                }
                Self::Ok(address, path) => {
                    let (status, _) = http::get(*address, path).await.ok()?;
                    status.is_success().then_some(())
                }
                Self::Answers(address, path) => http::get(*address, path).await.ok().map(drop),
            }
        };
        matches!(tokio::time::timeout(ANSWER, ask).await, Ok(Some(())))
    }
}
