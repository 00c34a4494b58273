//! The crate `tokio-util`: its codecs, which know bytes and no sockets, cut blocking
//! streams into lines and frames.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use bytes::{Bytes, BytesMut};
use crore::sync::channel;
use crore_clients::on_one_thread;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec, LinesCodec, LinesCodecError};

/// The next frame; `None` at the end of the stream.
fn next<D: Decoder>(
    mut from: impl Read,
    codec: &mut D,
    buffer: &mut BytesMut,
) -> Result<Option<D::Item>, D::Error> {
    loop {
        if let Some(frame) = codec.decode(buffer)? {
            return Ok(Some(frame));
        }
        let mut bytes = [0; 4096];
        match from.read(&mut bytes)? {
            0 => return codec.decode_eof(buffer),
            n => buffer.extend_from_slice(&bytes[..n]),
        }
    }
}

fn encoded<T, E: Encoder<T>>(mut codec: E, items: impl IntoIterator<Item = T>) -> BytesMut {
    let mut buffer = BytesMut::new();
    for item in items {
        codec.encode(item, &mut buffer).ok().unwrap();
    }
    buffer
}

/// Writes `bytes` in pieces of all lengths, from a coroutine of its own, and closes.
fn in_pieces(bytes: BytesMut) -> UnixStream {
    let (here, mut there) = UnixStream::pair().unwrap();
    crore::spawn(move || {
        let (mut rest, mut length) = (&bytes[..], 1);
        while !rest.is_empty() {
            let (piece, others) = rest.split_at(rest.len().min(length));
            there.write_all(piece).unwrap();
            (rest, length) = (others, length * 3 % 1_009);
            crore::yield_now();
        }
    });
    here
}

#[test]
fn lines_come_whole_and_have_a_limit() {
    on_one_thread(|| {
        let sent: Vec<_> = (0..200).map(|i| "é".repeat(i)).collect();
        let bytes = encoded(LinesCodec::new(), &sent);
        let readers = (0..50).map(|_| {
            let bytes = bytes.clone();
            crore::spawn(move || {
                let stream = in_pieces(bytes);
                let mut codec = LinesCodec::new_with_max_length(400);
                let mut buffer = BytesMut::new();
                let lines = std::iter::from_fn(|| next(&stream, &mut codec, &mut buffer).unwrap());
                lines.collect::<Vec<_>>()
            })
        });
        let readers: Vec<_> = readers.collect();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), sent);
        }
        // std's do the same.
        let lines = BufReader::new(in_pieces(bytes.clone())).lines();
        assert_eq!(lines.collect::<io::Result<Vec<_>>>().unwrap(), sent);

        let (mut codec, mut buffer) = (LinesCodec::new_with_max_length(100), BytesMut::new());
        let stream = in_pieces(bytes);
        let late = (0..200).find_map(|_| next(&stream, &mut codec, &mut buffer).err());
        assert!(matches!(late, Some(LinesCodecError::MaxLineLengthExceeded)));
    });
}

#[test]
fn frames_come_whole_and_have_a_limit() {
    on_one_thread(|| {
        let sent: Vec<_> = [0, 1, 5, 4_095, 4_096, 70_000, 3]
            .map(|n: usize| Bytes::from((0..n).map(|i| i as u8).collect::<Vec<_>>()))
            .into();
        let bytes = encoded(LengthDelimitedCodec::new(), sent.clone());
        let stream = in_pieces(bytes.clone());
        let (mut codec, mut buffer) = (LengthDelimitedCodec::new(), BytesMut::new());
        for frame in &sent {
            let got = next(&stream, &mut codec, &mut buffer).unwrap();
            assert_eq!(got.unwrap(), frame);
        }
        assert!(next(&stream, &mut codec, &mut buffer).unwrap().is_none());

        let short = bytes.clone().split_to(bytes.len() - 1);
        for (bytes, limit) in [(bytes, 60_000), (short, 1 << 20)] {
            let (stream, mut buffer) = (in_pieces(bytes), BytesMut::new());
            let mut codec = LengthDelimitedCodec::builder()
                .max_frame_length(limit)
                .new_codec();
            let whole = (0..7).map_while(|_| next(&stream, &mut codec, &mut buffer).ok());
            assert_eq!(whole.count(), if limit < 70_000 { 5 } else { 6 });
        }
    });
}

/// What waits in the buffer is looked at before the socket is waited for.
#[test]
fn frames_and_pushes_in_one_coroutine() {
    on_one_thread(|| {
        let sent: Vec<_> = (0..300_u32).map(|i| i.to_be_bytes().to_vec()).collect();
        let stream = in_pieces(encoded(
            LengthDelimitedCodec::new(),
            sent.iter().cloned().map(Bytes::from),
        ));
        let (push, pushes) = channel::bounded(1);
        let pusher = crore::spawn(move || (0..300).for_each(|n| push.send(n).unwrap()));
        let (mut codec, mut buffer) = (LengthDelimitedCodec::new(), BytesMut::new());
        let (mut frames, mut pushed) = (Vec::new(), 0);
        let mut open = true;
        while open || pushed < 300 {
            while let Some(frame) = codec.decode(&mut buffer).unwrap() {
                frames.push(frame.to_vec());
            }
            crore::select! {
                readable(&stream) => {
                    let mut bytes = [0; 256];
                    let n = (&stream).read(&mut bytes).unwrap();
                    open = n > 0;
                    buffer.extend_from_slice(&bytes[..n]);
                },
                recv(pushes) -> push => if let Ok(n) = push {
                    assert_eq!(n, pushed);
                    pushed += 1;
                },
            }
        }
        pusher.join().unwrap();
        assert_eq!(frames, sent);
    });
}
