//! Session streams: what arrives, how it is counted, and how a peer that breaks the rules is dropped.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::raw::{ClientAuth, client, dial, honest};
use common::{Pair, allow, bind_with, keys, pair, pair_with, soon};
use kvgossip_transport::limits::{MAX_FRAME_BYTES, MIN_PROGRESS_BYTES_PER_S};
use kvgossip_transport::{Code, Connection, Endpoint, FrameError, Limits, StreamBytes, TransportError};
use std::time::{Duration, Instant};

/// Limits that make a stalled peer show in a test's time.
fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.no_progress_timeout = Duration::from_millis(300);
    limits
}

/// An endpoint and a raw QUIC connection with it, made with an honest key.
async fn raw_peer(limits: Limits) -> (Endpoint, Connection, quinn::Connection) {
    let [_, b, ..] = keys();
    let raw_key = kvgossip_transport::ReplicaKey::from_pem(&common::fixture("replica-3072.pem")).unwrap();
    let endpoint = bind_with(&b, allow([&raw_key]), limits);
    let client = client(ClientAuth::RawKey(honest("replica-3072.pem")));
    let address = endpoint.local_addr().unwrap();
    let (raw, inward) = tokio::join!(dial(&client, address), endpoint.accept());
    (endpoint, inward.unwrap(), raw.unwrap())
}

/// The reason that the raw peer's connection was closed with.
async fn close_code(raw: &quinn::Connection) -> Code {
    match soon(raw.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => Code::from_number(close.error_code.into_inner()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn frames_of_every_size_arrive_both_ways_and_every_byte_is_counted() {
    let pair = pair().await;
    let frames: Vec<Bytes> = [1, 127, 128, 70_000, MAX_FRAME_BYTES, 5]
        .into_iter()
        .map(|len| vec![len as u8; len].into())
        .collect();
    let expected: u64 = frames.iter().map(|frame| frame.len() as u64).sum::<u64>() + 1 + 1 + 2 + 3 + 3 + 1;
    let echo = tokio::spawn(async move {
        let mut stream = pair.inward.accept_session().await.unwrap();
        while let Some(frame) = stream.recv().await.unwrap() {
            stream.send(frame).await.unwrap();
        }
        stream.finish().await.unwrap()
    });
    let mut stream = pair.out.open_session().await.unwrap();
    for frame in &frames {
        soon(stream.send(frame.clone())).await.unwrap();
        assert_eq!(soon(stream.recv()).await.unwrap().as_ref(), Some(frame));
    }
    let bytes = soon(stream.finish()).await.unwrap();
    assert_eq!(bytes, StreamBytes { sent: expected, received: expected });
    assert_eq!(soon(echo).await.unwrap(), bytes);
}

/// Both sides send more than all windows hold before either would stop to read.
#[tokio::test]
async fn both_directions_flow_at_once() {
    async fn run(mut stream: kvgossip_transport::SessionStream) -> StreamBytes {
        const FRAMES: usize = 12;
        let mut left = FRAMES;
        let (reader, writer) = stream.halves();
        for _ in 0..FRAMES {
            writer.queue(vec![1; MAX_FRAME_BYTES].into()).unwrap();
        }
        while left > 0 || writer.queued() > 0 {
            let waiting = writer.queued() > 0;
            tokio::select! {
                frame = reader.recv(), if left > 0 => {
                    assert_eq!(frame.unwrap().unwrap().len(), MAX_FRAME_BYTES);
                    left -= 1;
                }
                flushed = writer.flush(), if waiting => flushed.unwrap(),
            }
        }
        stream.finish().await.unwrap()
    }
    let pair = pair().await;
    let there = tokio::spawn(async move { run(pair.inward.accept_session().await.unwrap()).await });
    let here = soon(run(pair.out.open_session().await.unwrap())).await;
    assert_eq!(here.sent, 12 * (MAX_FRAME_BYTES as u64 + 3));
    assert_eq!(soon(there).await.unwrap(), StreamBytes { sent: here.received, received: here.sent });
}

#[tokio::test]
async fn sessions_follow_each_other_on_one_connection() {
    let pair = pair().await;
    for (opener, other) in [(&pair.out, &pair.inward), (&pair.inward, &pair.out), (&pair.out, &pair.inward)] {
        let open = async {
            let mut stream = opener.open_session().await.unwrap();
            stream.send("hello".into()).await.unwrap();
            stream.finish().await.unwrap()
        };
        let accept = async {
            let mut stream = other.accept_session().await.unwrap();
            assert_eq!(stream.recv().await.unwrap().unwrap(), "hello");
            stream.finish().await.unwrap()
        };
        soon(async { tokio::join!(open, accept) }).await;
        assert!(!pair.out.is_busy() && !pair.inward.is_busy());
    }
}

/// Each side is done when it has seen the other's end: the next session must not meet the last one.
#[tokio::test]
async fn sessions_back_to_back_are_never_busy() {
    let pair = pair().await;
    let answering = tokio::spawn(async move {
        for n in 0.. {
            let Ok(mut stream) = pair.inward.accept_session().await else { return n };
            // In turn, one side or the other ends first.
            if n % 2 == 0 {
                assert_eq!(stream.recv().await.unwrap().unwrap(), "hello");
                assert!(stream.recv().await.unwrap().is_none());
            } else {
                assert_eq!(stream.recv().await.unwrap().unwrap(), "hello");
            }
            stream.finish().await.unwrap();
        }
        0
    });
    const SESSIONS: usize = 500;
    for _ in 0..SESSIONS {
        let mut stream = pair.out.open_session().await.unwrap();
        soon(stream.send("hello".into())).await.unwrap();
        soon(stream.finish()).await.unwrap();
    }
    pair.out.close(Code::Closed, "");
    assert_eq!(soon(answering).await.unwrap(), SESSIONS);
}

#[tokio::test]
async fn a_second_session_is_busy_here_and_answered_busy_there() {
    let (_endpoint, inward, raw) = raw_peer(Limits::default()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    let mut first = soon(inward.accept_session()).await.unwrap();
    assert!(matches!(inward.open_session().await, Err(TransportError::Busy)));
    for _ in 0..20 {
        let (mut send, mut recv) = soon(raw.open_bi()).await.unwrap();
        send.write_all(&[1, 8]).await.unwrap();
        let error = soon(recv.read_to_end(9)).await.unwrap_err();
        let busy = Code::Busy.number().into();
        assert!(
            matches!(error, quinn::ReadToEndError::Read(quinn::ReadError::Reset(code)) if code == busy),
            "{error}"
        );
    }
    assert_eq!(soon(first.recv()).await.unwrap().unwrap(), vec![7], "the first goes on");
}

#[tokio::test]
async fn when_both_open_at_once_one_session_goes_on() {
    let pair = pair().await; // `out` belongs to the smaller id
    let mut small = pair.out.open_session().await.unwrap();
    let mut large = pair.inward.open_session().await.unwrap();
    soon(small.send("small".into())).await.unwrap();
    soon(large.send("large".into())).await.unwrap();
    let mut accepted = soon(pair.inward.accept_session()).await.unwrap();
    assert_eq!(soon(accepted.recv()).await.unwrap().unwrap(), "small");
    assert!(matches!(soon(large.recv()).await, Err(TransportError::Busy)));
    drop(large);
    soon(accepted.send("answer".into())).await.unwrap();
    assert_eq!(soon(small.recv()).await.unwrap().unwrap(), "answer");
}

#[tokio::test]
async fn a_session_that_is_given_up_says_so_and_leaves_the_connection() {
    let pair = pair().await;
    let mut stream = pair.out.open_session().await.unwrap();
    soon(stream.send("hello".into())).await.unwrap();
    let mut there = soon(pair.inward.accept_session()).await.unwrap();
    assert!(soon(there.recv()).await.unwrap().is_some());
    drop(stream);
    let error = soon(there.recv()).await.unwrap_err();
    assert!(matches!(error, TransportError::ByPeer { code: Code::Cancelled, .. }), "{error}");
    drop(there);

    let mut stream = pair.out.open_session().await.unwrap();
    soon(stream.send("hello".into())).await.unwrap();
    let there = soon(pair.inward.accept_session()).await.unwrap();
    there.abort(Code::ForeignCluster);
    let error = soon(stream.recv()).await.unwrap_err();
    assert!(matches!(error, TransportError::ByPeer { code: Code::ForeignCluster, .. }), "{error}");
    assert!(!pair.out.is_closed());
}

#[tokio::test]
async fn bad_frames_close_the_connection_with_their_code() {
    type Case = (&'static [u8], bool, Code, fn(&TransportError) -> bool);
    let cases: [Case; 5] = [
        (&[0x81, 0xa0, 0x40], false, Code::FrameTooLarge, |e| {
            matches!(e, TransportError::Frame(FrameError::TooLarge { .. }))
        }),
        (&[0xff, 0xff, 0xff, 0xff], false, Code::FrameTooLarge, |e| {
            matches!(e, TransportError::Frame(FrameError::TooLarge { .. }))
        }),
        (&[0x00], false, Code::Protocol, |e| matches!(e, TransportError::Frame(FrameError::Empty))),
        (&[0x81, 0x00], false, Code::Protocol, |e| {
            matches!(e, TransportError::Frame(FrameError::NotShortest))
        }),
        (&[0x05, 1, 2], true, Code::Protocol, |e| matches!(e, TransportError::Frame(FrameError::Truncated))),
    ];
    for (bytes, end, code, is_expected) in cases {
        let (_endpoint, inward, raw) = raw_peer(Limits::default()).await;
        let (mut send, _recv) = raw.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        if end {
            send.finish().unwrap();
        }
        let mut stream = soon(inward.accept_session()).await.unwrap();
        let error = soon(stream.recv()).await.unwrap_err();
        assert!(is_expected(&error), "{bytes:?}: {error}");
        assert_eq!(close_code(&raw).await, code, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_stream_reset_inside_a_frame_ends_the_session_only() {
    let (_endpoint, inward, raw) = raw_peer(Limits::default()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[0x05, 1, 2]).await.unwrap();
    let mut stream = soon(inward.accept_session()).await.unwrap();
    send.reset(Code::Internal.number().into()).unwrap();
    let error = soon(stream.recv()).await.unwrap_err();
    assert!(matches!(error, TransportError::ByPeer { code: Code::Internal, .. }), "{error}");
    drop(stream);
    assert!(!inward.is_closed() && !inward.is_busy());
}

#[tokio::test]
async fn a_frame_after_the_end_breaks_the_protocol() {
    let (_endpoint, inward, raw) = raw_peer(Limits::default()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    let mut stream = soon(inward.accept_session()).await.unwrap();
    assert!(soon(stream.recv()).await.unwrap().is_some());
    send.write_all(&[1, 8]).await.unwrap();
    assert_eq!(soon(stream.finish()).await.unwrap_err().code(), Code::Protocol);
    assert_eq!(close_code(&raw).await, Code::Protocol);
}

#[tokio::test]
async fn a_peer_that_stalls_is_dropped_wherever_it_stalls() {
    for sent in [&[][..], &[0x05], &[0x05, 1, 2], &[0x85]] {
        let (_endpoint, inward, raw) = raw_peer(impatient()).await;
        let (mut send, _recv) = raw.open_bi().await.unwrap();
        send.write_all(&[1, 7]).await.unwrap();
        send.write_all(sent).await.unwrap();
        let mut stream = soon(inward.accept_session()).await.unwrap();
        assert!(soon(stream.recv()).await.unwrap().is_some());
        let begin = Instant::now();
        assert!(matches!(soon(stream.recv()).await, Err(TransportError::TooSlow { .. })), "{sent:?}");
        assert!(begin.elapsed() >= Duration::from_millis(250));
        assert_eq!(close_code(&raw).await, Code::TooSlow, "{sent:?}");
    }
}

/// It would be inside the limit of silence for ever.
#[tokio::test]
async fn a_peer_that_trickles_is_dropped() {
    let (_endpoint, inward, raw) = raw_peer(impatient()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[0xff, 0x7f]).await.unwrap();
    let trickle = tokio::spawn(async move {
        while send.write_all(&[1]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut stream = soon(inward.accept_session()).await.unwrap();
    assert!(matches!(soon(stream.recv()).await, Err(TransportError::TooSlow { .. })));
    assert_eq!(close_code(&raw).await, Code::TooSlow);
    soon(trickle).await.unwrap();
    assert!(stream.bytes().received < u64::from(MIN_PROGRESS_BYTES_PER_S));
}

/// Each frame pays for a second of silence, and none for the session as a whole.
#[tokio::test]
async fn a_peer_that_sends_a_small_frame_now_and_then_is_dropped_and_shut_out() {
    let mut limits = Limits::default();
    limits.session_grace = Duration::from_millis(500);
    let (endpoint, inward, raw) = raw_peer(limits).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    let trickle = tokio::spawn(async move {
        while send.write_all(&[1, 7]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut stream = soon(inward.accept_session()).await.unwrap();
    let ended = soon(async {
        loop {
            if let Err(error) = stream.recv().await {
                break error;
            }
        }
    })
    .await;
    assert!(matches!(ended, TransportError::Trickled { .. }), "{ended:?}");
    assert_eq!(close_code(&raw).await, Code::TooSlow);
    soon(trickle).await.unwrap();

    let shut_out = endpoint.shut_out();
    assert_eq!((shut_out.len(), shut_out[0].peer, shut_out[0].code), (1, inward.peer(), Code::TooSlow));
    let client = client(ClientAuth::RawKey(honest("replica-3072.pem")));
    let again = dial(&client, endpoint.local_addr().unwrap()).await.unwrap_err();
    let quinn::ConnectionError::ApplicationClosed(close) = again else { panic!("{again:?}") };
    assert_eq!(Code::from_number(close.error_code.into_inner()), Code::ShutOut);
    let named = soon(endpoint.connect(raw.remote_address(), Some(inward.peer()))).await.unwrap_err();
    assert!(matches!(named, TransportError::ShutOut(_)), "nobody dials it either: {named:?}");
}

/// A line that is cut looks like this.
#[tokio::test]
async fn a_peer_that_falls_silent_is_not_shut_out() {
    let (endpoint, inward, raw) = raw_peer(impatient()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    let mut stream = soon(inward.accept_session()).await.unwrap();
    assert!(soon(stream.recv()).await.unwrap().is_some());
    assert!(matches!(soon(stream.recv()).await, Err(TransportError::TooSlow { .. })));
    assert!(endpoint.shut_out().is_empty());
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_dropped() {
    let (_endpoint, inward, raw) = raw_peer(impatient()).await;
    let (mut send, _recv) = raw.open_bi().await.unwrap();
    send.write_all(&[1, 7]).await.unwrap();
    let mut stream = soon(inward.accept_session()).await.unwrap();
    let mut result = Ok(());
    // More than the raw peer's windows and our own buffer hold together.
    for _ in 0..64 {
        result = soon(stream.send(vec![0; MAX_FRAME_BYTES].into())).await;
        if result.is_err() {
            break;
        }
    }
    assert!(matches!(result, Err(TransportError::TooSlow { .. })), "{result:?}");
    assert_eq!(close_code(&raw).await, Code::TooSlow);
}

#[tokio::test]
async fn a_peer_waits_while_we_work_and_is_not_to_blame() {
    let Pair { dialler: _dialler, dialled: _dialled, out, inward } = pair_with(impatient()).await;
    let mut stream = out.open_session().await.unwrap();
    soon(stream.send("hello".into())).await.unwrap();
    let mut there = soon(inward.accept_session()).await.unwrap();
    assert!(soon(there.recv()).await.unwrap().is_some());

    // Longer than its patience. The clock runs only while a call of the stream waits.
    tokio::time::sleep(Duration::from_millis(700)).await;
    soon(there.send("done".into())).await.unwrap();
    assert!(!out.is_closed());
}
