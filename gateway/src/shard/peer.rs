//! Whom a connection comes from: its other end, or whom a trusted proxy names in front of all else.

use std::{io, net::IpAddr};

use tokio::net::TcpStream;

use super::Shard;
use crate::admission::proxy_protocol::{Header, parse};

/// How much of a header is looked at at once: more than one has in practice.
const CHUNK_BYTES: usize = 256;

/// Whom a connection comes from. None where it ends without a word. Of what it says only the header is taken.
///
/// # Errors
/// When a header is missing or wrong, or the connection breaks.
pub(super) async fn find(
    shard: &Shard,
    stream: &TcpStream,
    peer: IpAddr,
) -> anyhow::Result<Option<IpAddr>> {
    let live = shard.state.borrow().live.clone();
    if !live.client_address.expects_proxy_header(peer) {
        return Ok(Some(peer));
    }
    // Apart, so that who needs none is small.
    let source = Box::pin(read_header(stream)).await?;
    Ok(source.map(|source| source.unwrap_or(peer)))
}

/// The source that the header names, if it does. None where there is no header, nor anything else.
async fn read_header(stream: &TcpStream) -> anyhow::Result<Option<Option<IpAddr>>> {
    let mut header = Vec::new();
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let seen = stream.peek(&mut chunk).await?;
        let taken = header.len();
        match (seen, taken) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => {}
        }
        header.extend_from_slice(chunk.get(..seen).unwrap_or_default());
        match parse(&header)? {
            Header::Whole { bytes, source } => {
                take(stream, &mut chunk, bytes - taken).await?;
                return Ok(Some(source));
            }
            Header::Partial => take(stream, &mut chunk, seen).await?,
        }
    }
}

/// Takes bytes that have been seen, and no more.
async fn take(stream: &TcpStream, chunk: &mut [u8], mut count: usize) -> io::Result<()> {
    while count > 0 {
        let room = chunk.get_mut(..count).unwrap_or_default();
        match stream.try_read(room) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => count -= read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
