//! What parent and child tell each other: an order one way, frames the other. Both are the same program, so the form has
//! no version.
//!
//! The order is a head in JSON and the body of the request, each behind its length; a byte behind it cancels the call.
//! A frame is a letter, a length and as many bytes. The bytes of an answer have frames of their own, since JSON is no
//! place for them. Lengths are 32 bits, the lowest first.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use sluice_domain::{ApiPath, CallId, ModelName, UpstreamName};
use sluice_provider::{
    CallReport, CallRequest, Credential, Dialect, Hmac, MayBegin, Secret, Timeouts, Upstream,
};
use tokio_util::codec::Decoder;

/// The most bytes of a head or a text.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// A body that was put together from a stream can be longer than the stream, by its escapes.
const MAX_GROWTH: usize = 4;
/// The most bytes of a body that is ordered: far more than is accepted at a submit.
const MAX_ORDER_BYTES: usize = 256 * 1024 * 1024;
/// A letter and a length.
const PREFIX_BYTES: usize = 5;
/// Cancels the call.
pub(super) const CANCEL: u8 = b'c';

/// A call that a child is to make, and where it goes to. It holds a credential, and so can't be shown.
pub(super) struct Order {
    pub(super) head: OrderHead,
    pub(super) body: Bytes,
}

/// All of an order but the body.
#[derive(Serialize, Deserialize)]
pub(super) struct OrderHead {
    pub(super) upstream: UpstreamName,
    pub(super) provider: String,
    pub(super) base_url: String,
    pub(super) credential: ToldCredential,
    pub(super) timeouts: Timeouts,
    pub(super) max_answer_bytes: usize,
    pub(super) is_streamed_if_worth_it: bool,
    pub(super) usual_duration: Option<Duration>,
    pub(super) call_id: CallId,
    pub(super) path: ApiPath,
    pub(super) model: ModelName,
    pub(super) traceparent: Option<String>,
}

/// A credential as a child is told it: tokens are had by the parent, so that all calls share them.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ToldCredential {
    None,
    Bearer(String),
    Header { name: String, value: String },
    Hmac { key: String, signature_header: String, timestamp_header: String, nonce_header: String },
}

impl ToldCredential {
    /// `None` for kinds of which the token is told instead.
    pub(super) fn of(credential: Credential) -> Option<Self> {
        Some(match credential {
            Credential::None => Self::None,
            Credential::Bearer(key) => Self::Bearer(key.expose().to_owned()),
            Credential::Header { name, value } => Self::Header { name, value: value.expose().to_owned() },
            Credential::Hmac(Hmac { key, signature_header, timestamp_header, nonce_header }) => {
                let key = key.expose().to_owned();
                Self::Hmac { key, signature_header, timestamp_header, nonce_header }
            }
            Credential::Jwt(_) | Credential::OAuth2(_) => return None,
        })
    }

    fn into_credential(self) -> Credential {
        match self {
            Self::None => Credential::None,
            Self::Bearer(key) => Credential::Bearer(Secret::new(key)),
            Self::Header { name, value } => Credential::Header { name, value: Secret::new(value) },
            Self::Hmac { key, signature_header, timestamp_header, nonce_header } => {
                let key = Secret::new(key);
                Credential::Hmac(Hmac { key, signature_header, timestamp_header, nonce_header })
            }
        }
    }
}

impl Order {
    /// The bytes that are sent before the body.
    pub(super) fn prefix(&self) -> io::Result<Vec<u8>> {
        let head = serde_json::to_vec(&self.head)?;
        let mut prefix = Vec::with_capacity(head.len() + 8);
        prefix.extend(length(&head)?);
        prefix.extend(head);
        prefix.extend(length(&self.body)?);
        Ok(prefix)
    }

    /// Reads one.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let head = serde_json::from_slice(&read_piece(from, MAX_HEAD_BYTES)?)?;
        Ok(Self { head, body: read_piece(from, MAX_ORDER_BYTES)?.into() })
    }

    /// The upstream and the call, for the client.
    pub(super) fn into_call(self) -> io::Result<(Upstream, CallRequest)> {
        let Self { head, body } = self;
        let dialect: Dialect = head.provider.parse().map_err(io::Error::other)?;
        let mut upstream = Upstream::new(head.upstream, dialect, head.base_url);
        upstream.credential = head.credential.into_credential();
        upstream.timeouts = head.timeouts;
        upstream.max_answer_bytes = head.max_answer_bytes;
        upstream.is_streamed_if_worth_it = head.is_streamed_if_worth_it;
        let OrderHead { call_id, path, model, traceparent, usual_duration, .. } = head;
        // Whether it may begin was asked before the order was given.
        let may_begin = MayBegin::default();
        Ok((upstream, CallRequest { call_id, path, model, body, traceparent, usual_duration, may_begin }))
    }
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    u32::try_from(bytes.len()).map(u32::to_le_bytes).map_err(io::Error::other)
}

fn read_piece(from: &mut impl Read, max_bytes: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length as usize > max_bytes {
        return Err(too_long(length as usize));
    }
    let mut piece = Vec::new();
    from.take(length.into()).read_to_end(&mut piece)?;
    if piece.len() == length as usize { Ok(piece) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn too_long(bytes: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a piece of {bytes} bytes is longer than any should be"),
    )
}

/// What a child tells.
#[derive(PartialEq, Debug)]
pub(super) enum Frame {
    /// It is not stuck.
    Beat,
    /// It panicked, at this place of the program.
    PanickedAt(String),
    /// The call could not be begun, for this reason.
    NotBegun(String),
    /// The report, without the bytes of the answer.
    Report(Box<CallReport>),
    /// The body of the answer.
    Body(Bytes),
    /// The stream that the body was put together from.
    RawStream(Bytes),
    /// That was all.
    End,
}

const BEAT: u8 = b'b';
const PANICKED_AT: u8 = b'p';
const NOT_BEGUN: u8 = b'n';
const REPORT: u8 = b'r';
const BODY: u8 = b'a';
const RAW_STREAM: u8 = b's';
const END: u8 = b'.';

impl Frame {
    /// Writes it, and flushes.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let head;
        let (letter, payload): (u8, &[u8]) = match self {
            Self::Beat => (BEAT, &[]),
            Self::PanickedAt(text) => (PANICKED_AT, text.as_bytes()),
            Self::NotBegun(text) => (NOT_BEGUN, text.as_bytes()),
            Self::Report(report) => {
                head = serde_json::to_vec(report)?;
                (REPORT, &head)
            }
            Self::Body(bytes) => (BODY, bytes),
            Self::RawStream(bytes) => (RAW_STREAM, bytes),
            Self::End => (END, &[]),
        };
        to.write_all(&[letter])?;
        to.write_all(&length(payload)?)?;
        to.write_all(payload)?;
        to.flush()
    }

    fn of(letter: u8, payload: Bytes) -> io::Result<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(match letter {
            BEAT => Self::Beat,
            PANICKED_AT => Self::PanickedAt(text(&payload)),
            NOT_BEGUN => Self::NotBegun(text(&payload)),
            REPORT => Self::Report(serde_json::from_slice(&payload)?),
            BODY => Self::Body(payload),
            RAW_STREAM => Self::RawStream(payload),
            END => Self::End,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of an unknown kind")),
        })
    }
}

/// Takes frames from a child's output, none longer than it may be.
pub(super) struct FrameDecoder {
    pub(super) max_answer_bytes: usize,
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Frame>> {
        let Some((&[letter, ref length @ ..], _)) = from.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        let max_bytes = match letter {
            BODY | RAW_STREAM => self.max_answer_bytes.saturating_mul(MAX_GROWTH),
            _ => MAX_HEAD_BYTES,
        };
        if length > max_bytes {
            return Err(too_long(length));
        }
        if from.len() < PREFIX_BYTES + length {
            from.reserve(PREFIX_BYTES + length - from.len());
            return Ok(None);
        }
        from.advance(PREFIX_BYTES);
        Frame::of(letter, from.split_to(length).freeze()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(bytes: &[u8], piece_bytes: usize) -> io::Result<Vec<Frame>> {
        let mut decoder = FrameDecoder { max_answer_bytes: 100 };
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece_bytes) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut buffer)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = || {
            vec![
                Frame::Beat,
                Frame::Body(Bytes::from_static(b"\0\xff\r\n.")),
                Frame::RawStream(Bytes::new()),
                Frame::PanickedAt("x.rs:1".to_owned()),
                Frame::NotBegun(String::new()),
                Frame::End,
            ]
        };
        let mut bytes = Vec::new();
        for frame in frames() {
            frame.write(&mut bytes).unwrap();
        }
        for piece_bytes in [1, 3, 1_000] {
            assert_eq!(decode_all(&bytes, piece_bytes).unwrap(), frames());
        }
    }

    #[test]
    fn a_piece_that_is_too_long_is_refused_by_its_length_alone() {
        let mut bytes = vec![BODY];
        bytes.extend(401_u32.to_le_bytes());
        assert!(decode_all(&bytes, 10).is_err());
        bytes[1..].copy_from_slice(&400_u32.to_le_bytes());
        assert_eq!(decode_all(&bytes, 10).unwrap(), []);
        assert!(decode_all(b"?\0\0\0\0", 10).is_err(), "a letter that nobody knows");
    }

    #[test]
    fn an_order_comes_out_as_it_went_in() {
        let order = || Order {
            head: OrderHead {
                upstream: UpstreamName::new("u").unwrap(),
                provider: "openai".to_owned(),
                base_url: "http://127.0.0.1:1".to_owned(),
                credential: ToldCredential::Bearer("sk-1".to_owned()),
                timeouts: Timeouts::default(),
                max_answer_bytes: 5,
                is_streamed_if_worth_it: false,
                usual_duration: None,
                call_id: CallId::generate(),
                path: ApiPath::default(),
                model: ModelName::new("m").unwrap(),
                traceparent: None,
            },
            body: Bytes::from_static(b"{\"a\":\xff}"),
        };
        let mut sent = order().prefix().unwrap();
        sent.extend(order().body);
        let (upstream, request) = Order::read(&mut sent.as_slice()).unwrap().into_call().unwrap();
        assert_eq!((upstream.max_answer_bytes, upstream.timeouts), (5, Timeouts::default()));
        assert_eq!(upstream.credential, Credential::Bearer(Secret::new("sk-1")));
        assert_eq!(request.body, order().body);
        sent.pop();
        assert!(Order::read(&mut sent.as_slice()).is_err(), "a cut order is none");
    }

    proptest! {
        #[test]
        fn no_output_of_a_child_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = decode_all(&bytes, piece);
        }
    }
}
