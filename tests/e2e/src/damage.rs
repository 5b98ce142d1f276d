//! Damaged requests, the same sequence for the same seed.
//!
//! No damaged request can change the machine: the original requests only read, or they name files,
//! programs and handles that do not exist. No command that changes a guest is among them.

/// The original requests. Their replies do not change from call to call.
const REQUESTS: [&str; 22] = [
    r#"{"execute":"guest-ping"}"#,
    r#"{"execute": "guest-ping", "arguments": {}, "id": 17}"#,
    r#"{'execute':'guest-ping','id':{'a':[1,2.5,-3,true,null],"b":{"c":"\ud83d\ude00"}}}"#,
    r#"{"execute":"guest-sync","arguments":{"id":1700000000000}}"#,
    r#"{ "execute" : "guest-sync" , "arguments" : { "id" : -5 } , "id" : "x\ty" }"#,
    "{\n  \"execute\": \"guest-sync\",\n  \"arguments\": {\n    \"id\": 12\n  }\n}",
    r#"{"execute":"guest-sync-delimited","arguments":{"id":4711}}"#,
    r#"{"execute":"guest-get-host-name"}"#,
    r#"{"execute":"guest-get-timezone","id":[[],{}]}"#,
    r#"{"execute":"guest-get-osinfo"}"#,
    r#"{"execute":"guest-fsfreeze-status"}"#,
    r#"{"execute":"guest-no-such-command","arguments":{"mode":"halt"}}"#,
    r#"{"execute":"guest-file-open","arguments":{"path":"no-such-directory/file","mode":"r+b"}}"#,
    r#"{"execute":"guest-file-read","arguments":{"handle":1000,"count":4096}}"#,
    r#"{"execute":"guest-file-write","arguments":{"handle":1000,"buf-b64":"aGVsbG8=","count":5}}"#,
    r#"{"execute":"guest-file-seek","arguments":{"handle":1000,"offset":-1,"whence":"end"}}"#,
    r#"{"execute":"guest-file-seek","arguments":{"handle":1000,"offset":0,"whence":1}}"#,
    r#"{"execute":"guest-file-close","arguments":{"handle":1000}}"#,
    r#"{"execute":"guest-exec-status","arguments":{"pid":-1}}"#,
    r#"{"execute":"guest-exec","arguments":{"path":"no-such-directory/program","arg":["a","b"],"env":["A=b"],"input-data":"eA==","capture-output":"separated"}}"#,
    r#"{"execute":"guest-exec-status","arguments":{"pid":9223372036854775807},"id":1.5e3}"#,
    r#"{"execute":"guest-get-memory-block-info","arguments":{}}{"execute":"guest-ping"}"#,
];

/// Inserted pieces: brackets, quotes, numbers, keywords, escapes, control bytes, invalid UTF-8.
const PIECES: [&[u8]; 64] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"'",
    b"\\",
    b" ",
    b"\t",
    b"\r",
    b"\n",
    b"\n\n  ",
    b"    \n\t",
    b"{}",
    b"[]",
    b"[[",
    b"}}",
    b"{\"a\":",
    b"\"a\"",
    b"\"a\":1,",
    b",\"a\":1",
    b",\"a\":{\"b\":1,\"b\":2}",
    b"0",
    b"-",
    b"-0",
    b"01",
    b"1.",
    b".5",
    b"1e5",
    b"1e",
    b"0e1",
    b"+1",
    b"2.50",
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"true",
    b"false",
    b"null",
    b"nope",
    b"True",
    b"e",
    b"\\q",
    b"\\u12",
    b"\\u0041",
    b"\\ud800",
    b"\\udc00",
    b"\\uffff",
    b"\\ud83d\\ude00",
    b"\\u0000",
    b"\xc3\xa9",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xef\xbf\xbf",
    b"\xff",
    b"\xfe",
    b"\0",
    b"\x1b",
    b"\x7f",
    b"/* */",
];

/// A pseudo-random generator (xorshift) with a fixed seed.
pub struct Random(u64);

impl Random {
    /// Starts the generator.
    pub fn new(seed: u64) -> Random {
        // The product gives neighbouring seeds unlike streams. The 1 avoids the state 0, which never
        // changes.
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end.max(1)
    }

    fn pick<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }

    /// Returns a range of `text` of at most `most` bytes.
    fn part(&mut self, text: &[u8], most: usize) -> std::ops::Range<usize> {
        let start = self.below(text.len());
        let len = self.below(most.min(text.len() - start) + 1);
        start..start + len
    }

    /// Returns a damaged request.
    pub fn damaged(&mut self) -> Vec<u8> {
        let mut text = self.pick(&REQUESTS).as_bytes().to_vec();
        for _ in 0..1 + self.below(4) {
            self.damage(&mut text);
        }
        text
    }

    fn damage(&mut self, text: &mut Vec<u8>) {
        let at = self.below(text.len() + 1);
        match self.below(12) {
            0 => drop(text.drain(self.part(text, 1))),
            1 => drop(text.drain(self.part(text, 20))),
            2 => {
                let part = text[self.part(text, 20)].to_vec();
                drop(text.splice(at..at, part));
            }
            3 if !text.is_empty() => {
                let (one, other) = (self.below(text.len()), self.below(text.len()));
                text.swap(one, other);
            }
            4 => text.truncate(at),
            5 => {
                let byte = self.below(256).to_le_bytes()[0];
                text.insert(at, byte);
            }
            6 if at < text.len() => text[at] = self.below(256).to_le_bytes()[0],
            7 => {
                // Appends another request, whole or without its beginning.
                let next = self.pick(&REQUESTS).as_bytes();
                let from = self.below(2) * self.below(next.len());
                text.extend_from_slice(&next[from..]);
            }
            8 => {
                let bracket = self.pick(&[b"[".as_slice(), b"{\"a\":", b"]", b"}"]);
                let deep = bracket.repeat(1 + self.below(1100));
                drop(text.splice(at..at, deep));
            }
            _ => drop(text.splice(at..at, self.pick(&PIECES).iter().copied())),
        }
    }
}
