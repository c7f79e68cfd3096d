//! TLS without IO: records in, bytes out, and the other way.
//!
//! rustls' unbuffered side is used, since its own buffers would be 4 KiB for each idle connection. Here one that is idle
//! holds keys alone: what came is decrypted as far as it goes, and only the beginning of an unfinished record is kept.

use std::{fmt, sync::Arc};

use rustls::{
    Error, ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus},
};

/// The largest content of a record, RFC 8446 section 5.1.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 10;

/// What a record may have beyond its content: header, nonce, tag, type.
const OVERHEAD_BYTES: usize = 64;

/// The largest part of a handshake that is kept until the rest has come: rustls gives up itself at 64 KiB.
pub(super) const UNREAD_BYTES_MAX: usize = 32 << 10;

const _: () = assert!(
    UNREAD_BYTES_MAX > RECORD_BYTES_MAX + 2_048 + 5,
    "the largest record of TLS 1.2 (RFC 5246, section 6.2.3) should be kept whole"
);

/// Why there are no more records.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Tls(#[from] Error),
    #[error("there is more unfinished input than a record can have")]
    TooLong,
    #[error("the connection has ended")]
    Ended,
}

/// One side's keys and state.
pub(super) struct Records {
    tls: UnbufferedServerConnection,
    /// The beginning of what is not complete yet.
    pub(super) unread: Vec<u8>,
    /// The client has said that nothing more comes.
    has_ended: bool,
    /// Something was wrong with what came. What `tls` knows of its input is no longer true then, and it must not be asked
    /// to look at it again: it would panic.
    is_broken: bool,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            unread: Vec::new(),
            has_ended: false,
            is_broken: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether the client has said that nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// Takes what has come: `input` begins with what was [unread](Self::unread). Gives contents to `content`, and adds
    /// to `output` what must be answered, also where it fails.
    pub(super) fn take(
        &mut self,
        input: &mut [u8],
        content: &mut dyn FnMut(&[u8]),
        output: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if self.is_broken {
            return Err(RecordError::Ended);
        }
        let mut taken = 0;
        let result = loop {
            let rest = input.get_mut(taken..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(rest);
            taken += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut more = 0;
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        more += record.discard;
                        content(record.payload);
                    }
                    taken += more;
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, output),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.has_ended = true,
                Ok(ConnectionState::Closed) => {
                    self.has_ended = true;
                    break Ok(());
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    break Ok(());
                }
                Ok(_) => break Err(RecordError::Ended),
                Err(error) => break Err(error.into()),
            }
        };
        if result.is_err() {
            self.is_broken = true;
            self.unread = Vec::new();
            self.answer_fault(output);
            return result;
        }
        let unread = input.get(taken..).unwrap_or_default();
        // What follows the client's end is of no interest.
        self.unread = if self.has_ended {
            Vec::new()
        } else {
            unread.to_vec()
        };
        if self.unread.len() >= UNREAD_BYTES_MAX {
            self.is_broken = true;
            return Err(RecordError::TooLong);
        }
        Ok(())
    }

    /// The alert that says what was wrong. While there is one, no input is looked at.
    fn answer_fault(&mut self, output: &mut Vec<u8>) {
        while self.tls.wants_write() {
            match self.tls.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, output),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while traffic.next_record().is_some() {}
                }
                _ => return,
            }
        }
    }

    /// Adds the records of `content`, one if it is no longer than [`RECORD_BYTES_MAX`], to `output`.
    pub(super) fn put(&mut self, content: &[u8], output: &mut Vec<u8>) -> Result<(), RecordError> {
        self.write(Outgoing::Content(content), output)
    }

    /// Adds the record that says that nothing more comes.
    pub(super) fn end(&mut self, output: &mut Vec<u8>) -> Result<(), RecordError> {
        self.write(Outgoing::End, output)
    }

    fn write(&mut self, outgoing: Outgoing<'_>, output: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.is_broken {
            return Err(RecordError::Ended);
        }
        let mut room = outgoing.content().len() + OVERHEAD_BYTES;
        loop {
            // It keeps account of a handshake message that has come in part, so it must see the same input again.
            let UnbufferedStatus { discard, state } =
                self.tls.process_tls_records(&mut self.unread);
            let mut is_done = false;
            match state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let begin = output.len();
                    output.resize(begin + room, 0);
                    let place = output.get_mut(begin..).unwrap_or_default();
                    let written = match outgoing {
                        Outgoing::Content(content) => traffic.encrypt(content, place),
                        Outgoing::End => traffic.queue_close_notify(place),
                    };
                    output.truncate(begin + written.as_ref().unwrap_or(&0));
                    match written {
                        Ok(_) => is_done = true,
                        Err(EncryptError::InsufficientSize(size)) => room = size.required_size,
                        Err(EncryptError::EncryptExhausted) => return Err(RecordError::Ended),
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, output),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.has_ended = true,
                _ => return Err(RecordError::Ended),
            }
            if discard > 0 {
                self.unread.drain(..discard.min(self.unread.len()));
            }
            if is_done {
                return Ok(());
            }
        }
    }
}

/// What is written.
#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Content(&'a [u8]),
    End,
}

impl<'a> Outgoing<'a> {
    fn content(self) -> &'a [u8] {
        match self {
            Self::Content(content) => content,
            Self::End => &[],
        }
    }
}

fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, output: &mut Vec<u8>) {
    let begin = output.len();
    let mut encoded = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(size)) = encoded {
        output.resize(begin + size.required_size, 0);
        encoded = data.encode(output.get_mut(begin..).unwrap_or_default());
    }
    output.truncate(begin + encoded.unwrap_or(0));
}
