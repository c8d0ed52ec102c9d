use super::*;

/// The result that is written, and the rest of the answer or the fault.
fn decoded(answer: &[u8], most: usize) -> (String, Result<Answer, String>) {
    let mut sink = Vec::new();
    let answer = decode(answer, &mut sink, most).map_err(|fault| match fault {
        Fault::Disk(error) => error.to_string(),
        fault => runtime::error_chain(&fault.of("differential.getrawdiff")),
    });
    (String::from_utf8(sink).expect("a string"), answer)
}

#[test]
fn string_is_decoded_whatever_its_escapes() {
    let table: [(&str, &str); 9] = [
        ("", ""),
        (
            r"diff --git a/x b/x\n+a\tb\r\n",
            "diff --git a/x b/x\n+a\tb\r\n",
        ),
        (r#"\"\\\/\b\f"#, "\"\\/\u{8}\u{c}"),
        (r"caf\u00e9 caf\u00E9", "café café"),
        ("café", "café"),
        (r"\ud83d\ude00 \uD83D\uDE00", "😀 😀"),
        ("😀", "😀"),
        (r"\u0000\u001f\u007f", "\0\u{1f}\u{7f}"),
        (r"\ufffd\uffff", "\u{fffd}\u{ffff}"),
    ];
    for (escaped, expected) in table {
        let answer = format!(r#"{{"result":"{escaped}","error_code":null,"error_info":null}}"#);
        let (result, answer) = decoded(answer.as_bytes(), expected.len());
        assert_eq!(result, expected, "{escaped}");
        let has_result = answer.map(|answer| answer.has_result);
        assert_eq!(has_result, Ok(true), "{escaped}");
    }
}

#[test]
fn string_longer_than_the_decoders_buffers_is_whole() {
    // Of three and four bytes: each buffer ends within a character.
    let text = "a€😀\n".repeat(3 * PIECE);
    for escape in [false, true] {
        let written = if escape {
            text.encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect()
        } else {
            text.replace('\n', "\\n")
        };
        let (result, answer) = decoded(
            format!(r#"{{"result":"{written}"}}"#).as_bytes(),
            text.len(),
        );
        assert!(result == text && answer.is_ok(), "{answer:?}");
    }
}

/// Counts the bytes that are read of an answer which is made as it is read, and those that are written.
#[derive(Default)]
struct Flow {
    read: Cell<usize>,
    written: Cell<usize>,
    most_kept: Cell<usize>,
}

impl Read for &Flow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let kept = self.read.get() - self.written.get();
        self.most_kept.set(self.most_kept.get().max(kept));
        buffer.fill(b'x');
        self.read.set(self.read.get() + buffer.len());
        Ok(buffer.len())
    }
}

impl Write for &Flow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.set(self.written.get() + bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn decoder_keeps_a_buffer_and_not_the_string() {
    let (flow, most) = (Flow::default(), 8 << 20);
    let endless = br#"{"result":""#.as_slice().chain(&flow);
    let fault = decode(endless, &mut &flow, most);
    assert!(
        matches!(fault, Err(Fault::Http(HttpError::TooLarge { .. }))),
        "{fault:?}"
    );
    assert_eq!(flow.written.get(), most);
    let kept = flow.most_kept.get();
    assert!(kept <= 2 * PIECE, "{kept} bytes");
}

#[test]
fn members_come_in_any_order_and_others_are_passed_over() {
    let patch = |code: Option<&str>, info: Option<&str>, has_result| Answer {
        has_result,
        error_code: code.map(str::to_owned),
        error_info: info.map(str::to_owned),
    };
    let table: [(&str, &str, Answer); 7] = [
        (
            r#"{"error_info":null,"error_code":null,"result":"p"}"#,
            "p",
            patch(None, None, true),
        ),
        (r#" { "result" : "p" } "#, "p", patch(None, None, true)),
        (
            r#"{"new":{"result":"no","a":[1,{"b":"\u00e9"}]},"result":"p","more":1e9}"#,
            "p",
            patch(None, None, true),
        ),
        (r#"{"r\u0065sult":"p"}"#, "p", patch(None, None, true)),
        (
            r#"{"result":null,"error_code":"ERR_NOT_FOUND","error_info":"Diff not \"found\"."}"#,
            "",
            patch(Some("ERR_NOT_FOUND"), Some("Diff not \"found\"."), false),
        ),
        (
            r#"{"error_code":"ERR-CONDUIT-CORE","result":"half"}"#,
            "half",
            patch(Some("ERR-CONDUIT-CORE"), None, true),
        ),
        ("{}", "", patch(None, None, false)),
    ];
    for (answer, result, expected) in table {
        assert_eq!(
            decoded(answer.as_bytes(), 100),
            (result.to_owned(), Ok(expected)),
            "{answer}"
        );
    }
}

#[test]
fn words_of_an_error_are_kept_up_to_a_bound() {
    let long = "x".repeat(3 * MAX_WORDS);
    let answer = format!(r#"{{"error_code":"{long}","error_info":"{long}"}}"#);
    let (_, answer) = decoded(answer.as_bytes(), 1);
    let answer = answer.expect("an answer");
    let lengths = [answer.error_code, answer.error_info].map(|words| words.map(|it| it.len()));
    assert_eq!(lengths, [Some(MAX_WORDS); 2]);
}

#[test]
fn garbage_is_a_fault_that_names_only_its_place() {
    let table: [(&[u8], &str); 22] = [
        (b"", "end of input error at line 1, column 1"),
        (b"{", "end of input error at line 1, column 2"),
        (
            b"{\"result\":\"secret",
            "end of input error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\"",
            "end of input error at line 1, column 19",
        ),
        (
            b"{\"result\":\"secret\"\n,",
            "end of input error at line 2, column 2",
        ),
        (
            b"{\"result\":\"secret\\",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\\u00e",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\\x\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\\ud83d\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\\ud83dx\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\\ude00\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\n\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\xff\"}",
            "syntax error at line 1, column 18",
        ),
        (
            b"{\"result\":\"secret\xe2\x82\"}",
            "syntax error at line 1, column 18",
        ),
        (b"{\"\xff\":1}", "syntax error at line 1, column 3"),
        (
            b"{\"result\":\"secret\"} x",
            "syntax error at line 1, column 21",
        ),
        (b"<html>secret", "syntax error at line 1, column 1"),
        (b"[\"secret\"]", "type error at line 1, column 1"),
        (b"\"secret\"", "type error at line 1, column 1"),
        (
            b"{\"result\":{\"title\":\"secret\"}}",
            "type error at line 1, column 11",
        ),
        (
            b"{\"result\":\"secret\",\"result\":\"secret\"}",
            "type error at line 1, column 28",
        ),
        (b"{\"error_code\":7}", "type error at line 1, column 15"),
    ];
    for (answer, expected) in table {
        let (_, fault) = decoded(answer, 100);
        let text = String::from_utf8_lossy(answer);
        let fault = fault.expect_err(&text);
        assert!(fault.ends_with(expected), "{text}: {fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
}

#[test]
fn oversized_patch_is_not_decoded_to_its_end() {
    let mut sink = Vec::new();
    let answer = format!(r#"{{"result":"{}"}}"#, "x".repeat(10 * PIECE));
    let fault = decode(answer.as_bytes(), &mut sink, 2 * PIECE).expect_err("too large");
    assert!(
        matches!(fault, Fault::Http(HttpError::TooLarge { .. })),
        "{fault:?}"
    );
    assert_eq!(sink.len(), 2 * PIECE);
    let (result, answer) = decoded("{\"result\":\"€\"}".as_bytes(), 2);
    assert!(result.is_empty() && answer.is_err(), "{answer:?}");
}

#[test]
fn disk_that_fails_is_no_fault_of_the_answer() {
    let mut full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("a device that is full");
    let fault = decode(br#"{"result":"patch"}"#.as_slice(), &mut full, 100);
    let Err(Fault::Disk(error)) = fault else {
        panic!("{fault:?}")
    };
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    // A directory can be opened and not be read.
    let broken = File::open("/").expect("a directory");
    let answer = br#"{"result":"pa"#.as_slice().chain(broken);
    let fault = decode(answer, &mut Vec::new(), 100);
    let Err(Fault::Disk(error)) = fault else {
        panic!("{fault:?}")
    };
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
}
