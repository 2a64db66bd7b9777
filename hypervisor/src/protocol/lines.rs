//! Framing: bytes into lines, in bounded memory.

/// The longest line, without its newline. Claims, bids and logs fit in a few hundred bytes; a full batch of them in
/// some kilobytes. WebAssembly agents may leave last words of the same length.
pub const LINE_MAX: usize = 64 * 1024;

/// How many bytes wait to be taken apart: the longest line, and one read of a socket behind it.
pub(super) const INPUT_MAX: usize = LINE_MAX + READ_MAX;
/// The most that a transport reads at once, so that peers take turns.
pub(super) const READ_MAX: usize = 16 * 1024;

/// A line longer than [`LINE_MAX`], of which nothing was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Bytes that have arrived and are not yet taken as lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Where the next line starts.
    start: usize,
    /// Up to where there is no newline: each byte is looked at once, however it trickles in.
    searched: usize,
    /// The rest of a line that was too long is thrown away up to its newline.
    skipping: bool,
}

impl Lines {
    /// Takes as many bytes as there is room for, and says how many.
    pub(super) fn push(&mut self, bytes: &[u8]) -> usize {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        let taken = bytes.len().min(INPUT_MAX - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// The next whole line without its newline. One that is too long is told once, as soon as it is known to be.
    pub(super) fn next(&mut self) -> Option<Result<&[u8], TooLong>> {
        loop {
            let newline = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = newline.map_or(self.bytes.len(), |at| self.searched + at);
            let line = self.start..end;
            let was_skipping = self.skipping;
            self.searched = end;
            if newline.is_some() {
                self.start = end + 1;
                self.searched = self.start;
                self.skipping = false;
                if was_skipping {
                    continue;
                }
                return Some(if line.len() > LINE_MAX { Err(TooLong) } else { Ok(&self.bytes[line]) });
            }
            if was_skipping || line.len() > LINE_MAX {
                self.bytes.clear();
                (self.start, self.searched, self.skipping) = (0, 0, true);
                return if was_skipping { None } else { Some(Err(TooLong)) };
            }
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<Result<Vec<u8>, TooLong>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            let mut rest = *chunk;
            loop {
                let taken = lines.push(rest);
                rest = &rest[taken..];
                while let Some(line) = lines.next() {
                    out.push(line.map(<[u8]>::to_vec));
                }
                assert!(lines.bytes.len() <= INPUT_MAX);
                if rest.is_empty() {
                    break;
                }
            }
        }
        out
    }

    /// The oracle: everything at once.
    fn naive(bytes: &[u8]) -> Vec<Result<Vec<u8>, TooLong>> {
        let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        let unfinished = pieces.pop().unwrap_or_default();
        let told = |line: &[u8]| if line.len() > LINE_MAX { Err(TooLong) } else { Ok(line.to_vec()) };
        let mut out: Vec<_> = pieces.into_iter().map(told).collect();
        if unfinished.len() > LINE_MAX {
            out.push(Err(TooLong));
        }
        out
    }

    #[test]
    fn the_longest_line_passes_and_one_byte_more_is_told_once() {
        for length in [LINE_MAX - 1, LINE_MAX, LINE_MAX + 1, 5 * LINE_MAX] {
            let mut bytes = vec![b'x'; length];
            bytes.extend_from_slice(b"\nnext\n");
            let lines = cut(&bytes.chunks(1000).collect::<Vec<_>>());
            assert_eq!(lines, naive(&bytes), "{length}");
            assert_eq!(lines.len(), 2);
            assert_eq!(lines[0].is_ok(), length <= LINE_MAX);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_split_gives_the_same_lines(
            pieces in proptest::collection::vec((0usize..90_000, any::<u8>(), any::<bool>()), 1..6),
            sizes in proptest::collection::vec(1usize..40_000, 1..12),
        ) {
            let mut bytes = Vec::new();
            for (length, byte, ends) in pieces {
                bytes.extend(std::iter::repeat_n(byte, length / 9 * (length % 9 + 1)));
                if ends {
                    bytes.push(b'\n');
                }
            }
            let (mut chunks, mut rest, mut size) = (Vec::new(), &bytes[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(rest.len().min(*size.next().unwrap()));
                chunks.push(chunk);
                rest = tail;
            }
            prop_assert_eq!(cut(&chunks), naive(&bytes));
        }
    }
}
