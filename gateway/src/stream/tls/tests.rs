//! A rustls client at the other end of a real socket, or of a buffer.

use std::{
    io::{Read, Write},
    time::SystemTime,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use wsgateway_certificate::{Authority, LEAF};

use super::*;
use crate::stream::Stream;

/// A server's and a client's configuration that fit together.
fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let now = SystemTime::now();
    let authority = Authority::make("test", now).unwrap();
    let pair = authority
        .issue(&["localhost".to_owned()].into(), LEAF.life, now)
        .unwrap();
    let provider = Arc::new(default_provider());
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    let trusted = authority.chain().pem();
    roots
        .add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap())
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn client(config: Arc<ClientConfig>) -> ClientConnection {
    ClientConnection::new(config, ServerName::try_from("localhost").unwrap()).unwrap()
}

/// What the client has to say.
fn said(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// Gives the server what came, `step` bytes at a time. Returns the contents and the answer.
fn give(records: &mut Records, bytes: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut contents, mut answer) = (Vec::new(), Vec::new());
    for part in bytes.chunks(step) {
        let mut input = [records.unread(), part].concat();
        records
            .take(
                &mut input,
                &mut |content| contents.extend_from_slice(content),
                &mut answer,
            )
            .unwrap();
    }
    (contents, answer)
}

/// Both after their handshake, with the client's bytes in steps of this size.
fn connected(
    version: &'static SupportedProtocolVersion,
    step: usize,
) -> (Records, ClientConnection) {
    let (server, config) = configs(version);
    let (mut records, mut client) = (Records::new(server).unwrap(), client(config));
    while records.is_handshaking() || client.is_handshaking() {
        let bytes = said(&mut client);
        let (contents, answer) = give(&mut records, &bytes, step);
        assert!(contents.is_empty());
        hear(&mut client, &answer);
    }
    (records, client)
}

#[test]
fn records_are_read_in_whatever_pieces_they_come() {
    for version in [&TLS12, &TLS13] {
        for step in [1, 3, 100, 100_000] {
            let (mut records, mut client) = connected(version, step);
            assert!(records.unread().is_empty());
            let message = vec![b'x'; 40_000];
            client.writer().write_all(&message).unwrap();
            let bytes = said(&mut client);
            let (contents, answer) = give(&mut records, &bytes, step);
            assert!(
                contents == message && answer.is_empty(),
                "{version:?} {step}"
            );
            assert!(records.unread().is_empty());

            let mut output = Vec::new();
            for record in message.chunks(RECORD_BYTES_MAX) {
                records.put(record, &mut output).unwrap();
            }
            assert!(output.len() < message.len() + 3 * 64);
            let mut got = Vec::new();
            for part in output.chunks(4_000) {
                hear(&mut client, part);
                let _ = client.reader().read_to_end(&mut got);
            }
            assert!(got == message, "{version:?} {step}");
        }
    }
}

#[test]
fn an_idle_connection_holds_nothing() {
    for version in [&TLS12, &TLS13] {
        let (mut records, mut client) = connected(version, 1_000);
        client.writer().write_all(b"hello").unwrap();
        let bytes = said(&mut client);
        give(&mut records, &bytes, 1_000);
        assert_eq!(records.unread.capacity(), 0);
    }
}

#[test]
fn both_sides_say_their_end() {
    let (mut records, mut client) = connected(&TLS13, 1_000);
    client.writer().write_all(b"last words").unwrap();
    client.send_close_notify();
    let bytes = said(&mut client);
    let (contents, _) = give(&mut records, &bytes, 1_000);
    assert_eq!(
        (&*contents, records.has_ended()),
        (&b"last words"[..], true)
    );
    // There may still be something to say to a client that says no more.
    let mut output = Vec::new();
    records.put(b"answer", &mut output).unwrap();
    records.end(&mut output).unwrap();
    hear(&mut client, &output);
    let mut got = Vec::new();
    // Without a close_notify this would be an error.
    client.reader().read_to_end(&mut got).unwrap();
    assert_eq!(got, b"answer");
}

/// The answer to a handshake message that comes in two records must wait for the second, whatever is written meanwhile.
#[test]
fn a_key_update_in_the_midst_of_writes_changes_nothing() {
    let (mut records, mut client) = connected(&TLS13, 1_000);
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b"after").unwrap();
    let bytes = said(&mut client);
    let mut output = Vec::new();
    let mut contents = Vec::new();
    for part in bytes.chunks(1) {
        let (more, answer) = give(&mut records, part, 1);
        contents.extend(more);
        output.extend(answer);
        records.put(b".", &mut output).unwrap();
    }
    assert_eq!(contents, b"after");
    hear(&mut client, &output);
    let mut got = vec![0; bytes.len()];
    client.reader().read_exact(&mut got).unwrap();
    assert_eq!(got, vec![b'.'; bytes.len()]);
}

#[test]
fn who_cannot_agree_gets_an_alert_and_nothing_after_it() {
    let mut records = Records::new(configs(&TLS13).0).unwrap();
    let hello = said(&mut client(configs(&TLS12).1));
    let mut output = Vec::new();
    let mut input = hello.clone();
    let mut taken = records.take(&mut input, &mut |_| (), &mut output);
    assert!(taken.is_err());
    // An alert, RFC 8446 section 5.1.
    assert_eq!(output.first(), Some(&21), "{output:?}");
    output.clear();
    taken = records.take(&mut input, &mut |_| (), &mut output);
    assert!(taken.is_err() && records.put(b"x", &mut output).is_err());
    assert!(records.end(&mut output).is_err() && output.is_empty());
}

/// Whatever comes, in whatever pieces: it is refused or awaited, never a panic.
#[test]
fn no_input_makes_it_panic() {
    let hello = said(&mut client(configs(&TLS13).1));
    let (server, _) = configs(&TLS13);
    for at in 0..hello.len() {
        for bit in 0..8 {
            let mut records = Records::new(server.clone()).unwrap();
            let mut bytes = hello.clone();
            bytes[at] ^= 1 << bit;
            let mut output = Vec::new();
            for part in bytes.chunks(97) {
                let mut input = [records.unread(), part].concat();
                let _ = records.take(&mut input, &mut |_| (), &mut output);
                let _ = records.put(b"x", &mut output);
            }
            let _ = records.end(&mut output);
        }
    }
}

#[test]
fn slices_become_records() {
    let long = vec![b'l'; RECORD_BYTES_MAX + 10];
    let slices = [&b"ab"[..], b"", b"cde", &long].map(IoSlice::new);
    let mut room = Vec::new();
    let mut record = |skip| next_record(&slices, skip, &mut room).len();
    assert_eq!(record(0), RECORD_BYTES_MAX);
    assert_eq!(record(RECORD_BYTES_MAX), 15);
    assert_eq!(record(5), RECORD_BYTES_MAX);
    assert_eq!(record(5 + RECORD_BYTES_MAX), 10);
    assert_eq!(record(15 + RECORD_BYTES_MAX), 0);
    assert_eq!(next_record(&slices[..3], 1, &mut room), b"bcde");
}

/// A pair of sockets of which the first has had its handshake.
async fn streams() -> (Stream, tokio_rustls::client::TlsStream<TcpStream>) {
    let (server, config) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connect = async {
        let tcp = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        connector.connect(name, tcp).await.unwrap()
    };
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let accepted = TlsStream::accept(tcp, server, Rc::default()).await;
        Stream::Tls(accepted.unwrap())
    };
    tokio::join!(accept, connect)
}

#[tokio::test]
async fn a_client_that_does_not_read_leaves_one_record_pending() {
    let (mut stream, mut client) = streams().await;
    let message = vec![b'x'; 1 << 20];
    let mut sent = 0_usize;
    loop {
        match stream.try_write(&[IoSlice::new(&message)]) {
            Ok(written) => sent += written,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(stream.is_pending());
    assert!(stream.held_bytes() <= RECORD_BYTES_MAX + 64);
    let waits = Tick::default();
    stream.note_pending(waits);
    assert_eq!(stream.pending_since(), Some(waits));
    let read = async {
        let mut got = vec![0; sent];
        client.read_exact(&mut got).await.unwrap();
        assert!(got.iter().all(|byte| *byte == b'x'));
    };
    let (flushed, ()) = tokio::join!(stream.flush(), read);
    flushed.unwrap();
    assert_eq!((stream.held_bytes(), stream.pending_since()), (0, None));
}

#[tokio::test]
async fn content_without_room_is_kept_and_then_the_end_is_read() {
    let (mut stream, mut client) = streams().await;
    client.write_all(b"0123456789").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    let mut part = [0; 3];
    loop {
        let count = stream.read(&mut part).await.unwrap();
        if count == 0 {
            break;
        }
        got.extend_from_slice(&part[..count]);
    }
    assert_eq!(got, b"0123456789");
    stream.shutdown().await.unwrap();
    // Without a close_notify this would be an error.
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn who_speaks_http_is_told_in_http() {
    let (server, _) = configs(&TLS13);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let (tcp, _) = listener.accept().await.unwrap();
    let refused = TlsStream::accept(tcp, server, Rc::default()).await;
    assert_eq!(refused.unwrap_err().reason(), "PlainHttp");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(
        head.starts_with("HTTP/1.1 400 ") && head.contains(&length),
        "{answer}"
    );
}
