//! RFC 9112 §6 and §7: where bodies end, in every segmentation, and what is written in their place (H22–H24).

use tidegate_proxy::http1::body::{Advance, BodyError, BodyReader, MAX_CHUNK_LINE, MAX_TRAILERS};
use tidegate_proxy::http1::head::{RequestFraming, ResponseFraming};

fn chunked() -> BodyReader {
    BodyReader::for_request(RequestFraming::Chunked)
}

/// Pushes pieces of `size`; what was forwarded and how much was the body's.
fn run(mut body: BodyReader, input: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let (mut out, mut consumed) = (Vec::new(), 0);
    for piece in input.chunks(size) {
        let Advance { consumed: used, done } = body.advance(piece, &mut out)?;
        consumed += used;
        assert_eq!(done, body.is_done());
        if done {
            return Ok((out, consumed, true));
        }
        assert_eq!(used, piece.len(), "an unfinished body takes everything");
    }
    Ok((out, consumed, false))
}

fn assert_chunked(input: &str, expected: &str, rest: &str) {
    let whole = format!("{input}{rest}");
    for size in 1..=whole.len() {
        let result = run(chunked(), whole.as_bytes(), size).unwrap();
        let (out, consumed, done) = result;
        assert_eq!(String::from_utf8(out).unwrap(), expected, "pieces of {size}");
        assert_eq!((consumed, done), (input.len(), true), "pieces of {size}");
    }
}

fn assert_error(input: &[u8], error: BodyError) {
    for size in 1..=input.len() {
        let result = run(chunked(), input, size);
        assert_eq!(
            result,
            Err(error),
            "{:?} in pieces of {size}",
            String::from_utf8_lossy(input)
        );
    }
}

#[test]
fn a_sized_body_ends_after_its_length() {
    for size in 1..9 {
        let body = BodyReader::for_request(RequestFraming::Length(5));
        assert_eq!(run(body, b"12345GET", size), Ok((b"12345".to_vec(), 5, true)));
    }
    assert!(BodyReader::for_request(RequestFraming::Empty).is_done());
    assert!(BodyReader::for_request(RequestFraming::Length(0)).is_done());
}

#[test]
fn a_body_until_close_never_ends_by_itself() {
    let body = BodyReader::for_response(ResponseFraming::UntilClose);
    assert_eq!(body.plain(), u64::MAX);
    assert_eq!(run(body, b"12345", 2), Ok((b"12345".to_vec(), 5, false)));
}

#[test]
fn rfc9112_7_1_chunks_are_written_anew() {
    assert_chunked(
        "3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\n",
    );
    assert_chunked(
        "00A\r\n0123456789\r\n0000\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "",
    );
    assert_chunked("0\r\n\r\n", "0\r\n\r\n", "\r\n");
}

#[test]
fn h24_chunk_extensions_are_dropped() {
    assert_chunked(
        "3;a=b\r\nabc\r\n0 ; c=\"d;e\"\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "x",
    );
}

#[test]
fn h24_odd_chunk_sizes_are_refused() {
    let sizes: [&[u8]; 16] = [
        b"\r\n",
        b"x\r\n",
        b"0x3\r\n",
        b"+3\r\n",
        b"-1\r\n",
        b" 3\r\n",
        b"3\n",
        b"3 3\r\n",
        b"3\r3\r\n",
        b"3;\0\r\n",
        b"3;a\rb\r\n",
        b"3,\r\n",
        b";a\r\n",
        b"1000000000000000\r\n",
        b"ffffffffffffffffff\r\n",
        b"3\r\r\n",
    ];
    for size in sizes {
        assert_error(size, BodyError::ChunkSize);
    }
}

#[test]
fn h24_data_ends_where_its_size_says() {
    for wrong in [
        &b"3\r\nabcd"[..],
        b"3\r\nabc\n",
        b"3\r\nabc\r3",
        b"3\r\nabc0\r\n\r\n",
    ] {
        assert_error(wrong, BodyError::ChunkEnd);
    }
}

#[test]
fn rfc9112_7_1_2_trailers_are_kept() {
    assert_chunked(
        "0\r\nX-Sum:abc \r\nY: z\r\n\r\n",
        "0\r\nX-Sum: abc\r\nY: z\r\n\r\n",
        "next",
    );
}

#[test]
fn rfc9110_6_5_1_trailers_may_not_frame_or_route() {
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Trailer",
    ] {
        assert_error(format!("0\r\n{name}: x\r\n\r\n").as_bytes(), BodyError::Trailer);
    }
    for odd in [
        "0\r\nnot a field\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        "0\r\nX: y\r\n z\r\n\r\n",
    ] {
        assert_error(odd.as_bytes(), BodyError::Trailer);
    }
}

#[test]
fn lines_and_trailers_are_bounded() {
    let long = format!("3;{}\r\n", "x".repeat(MAX_CHUNK_LINE - 4));
    assert_eq!(long.len(), MAX_CHUNK_LINE);
    assert!(run(chunked(), long.as_bytes(), 100).is_ok());
    let over = format!("3;{}\r\n", "x".repeat(MAX_CHUNK_LINE - 3));
    assert_eq!(run(chunked(), over.as_bytes(), 100), Err(BodyError::TooLarge));
    assert_eq!(
        run(chunked(), &vec![b'0'; MAX_CHUNK_LINE + 1], 1),
        Err(BodyError::TooLarge)
    );

    let trailer = |octets: usize| format!("0\r\nX: {}\r\n\r\n", "v".repeat(octets - 7));
    assert!(run(chunked(), trailer(MAX_TRAILERS).as_bytes(), 999).unwrap().2);
    for size in [1, 999, MAX_TRAILERS * 2] {
        assert_eq!(
            run(chunked(), trailer(MAX_TRAILERS + 1).as_bytes(), size),
            Err(BodyError::TooLarge)
        );
    }
}

#[test]
fn spliced_octets_are_counted() {
    let mut body = chunked();
    let mut out = Vec::new();
    body.advance(b"a\r\n01", &mut out).unwrap();
    assert_eq!(body.plain(), 8);
    body.passed(8);
    assert_eq!(body.plain(), 0);
    let end = body.advance(b"\r\n0\r\n\r\n", &mut out).unwrap();
    assert!(end.done);
    assert_eq!(out, b"a\r\n01\r\n0\r\n\r\n");

    let mut sized = BodyReader::for_request(RequestFraming::Length(9));
    sized.passed(9);
    assert!(sized.is_done());
}
