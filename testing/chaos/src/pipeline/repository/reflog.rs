//! The log that Git keeps of a ref: each write, with the objects before and after it.
//!
//! Git appends the line of a write before it moves the ref. So the line of a write that was cut off by a kill stays, and
//! the next write of the ref has the same object before it.

/// The object of a ref that does not exist.
const NONE: &str = "0000000000000000000000000000000000000000";

/// What a log says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// The objects that the ref had, in order. The last one is what it has.
    pub(super) objects: Vec<String>,
    /// The number of writes that were cut off.
    pub(super) cut_off: usize,
}

/// Reads the log of a ref that has the object `now`. The error is what is wrong with it.
pub(super) fn read(log: &str, now: &str) -> Result<Writes, String> {
    let mut lines = Vec::new();
    for line in log.lines() {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next()) {
            (Some(old), Some(new)) => lines.push((old, new)),
            _ => return Err(format!("has a line {line:?} in its log")),
        }
    }
    let mut writes = Writes::default();
    let mut before = NONE;
    for (at, &(old, new)) in lines.iter().enumerate() {
        if old != before {
            return Err(format!("was written as {old} → {new}, and had {before}"));
        }
        let after = lines.get(at + 1).map_or(now, |&(old, _)| old);
        if after == new {
            if writes.objects.iter().any(|object| object == new) {
                return Err(format!("was given {new} twice"));
            }
            writes.objects.push(new.to_owned());
            before = new;
        } else {
            writes.cut_off += 1;
        }
    }
    if before == now {
        Ok(writes)
    } else {
        Err(format!("has {now}, and by its log {before}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_write_is_the_next_one_or_was_cut_off() {
        let log = |writes: &[(&str, &str)]| -> String {
            let line = |(old, new): &(&str, &str)| {
                format!("{old} {new} Zoë <zoe@example.com> 1700000000 +0000\tpush\n")
            };
            writes.iter().map(line).collect()
        };
        let read = |writes: &[(&str, &str)], now| read(&log(writes), now);
        let found = |objects: &[&str], cut_off| {
            Ok(Writes {
                objects: objects.iter().map(|&object| object.to_owned()).collect(),
                cut_off,
            })
        };
        assert_eq!(read(&[(NONE, "a")], "a"), found(&["a"], 0));
        assert_eq!(read(&[(NONE, "a"), ("a", "b")], "b"), found(&["a", "b"], 0));
        assert_eq!(read(&[(NONE, "a"), (NONE, "a")], "a"), found(&["a"], 1));
        assert_eq!(read(&[(NONE, "a"), (NONE, "b")], "b"), found(&["b"], 1));
        assert_eq!(read(&[(NONE, "a"), ("a", "b")], "a"), found(&["a"], 1));
        let wrong: [(&[(&str, &str)], &str); 6] = [
            (&[], "a"),
            (&[(NONE, "a")], "b"),
            (&[("a", "b")], "b"),
            (&[(NONE, "a"), ("b", "c")], "c"),
            (&[(NONE, "a"), ("a", "a")], "a"),
            (&[(NONE, "a"), ("a", "b"), ("b", "a")], "a"),
        ];
        for (writes, now) in wrong {
            assert!(read(writes, now).is_err(), "{writes:?}");
        }
    }
}
