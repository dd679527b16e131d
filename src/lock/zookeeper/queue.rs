//! The order of the znodes that contend for a fence.
//!
//! ZooKeeper numbers them: it writes the parent's counter, a signed number of 32 bits, behind the name that was
//! asked for, in ten characters at least. After 2^31 acquisitions the counter goes on from the lowest number,
//! so numbers are compared by their distance.

/// The contenders for a fence, the holder first. Whoever's library they come from, their names end in ten digits.
#[derive(Debug)]
pub(super) struct Queue(Vec<(i32, String)>);

/// Where a contender stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<'a> {
    /// It holds the lock.
    First,
    /// Another one is just before it; whether that one is the first.
    After(&'a str, bool),
    /// It is not in the queue.
    Missing,
}

impl Queue {
    pub(super) fn new(children: Vec<String>) -> Self {
        let mut queue: Vec<_> = children
            .into_iter()
            .filter_map(|name| Some((number(&name)?, name)))
            .collect();
        if let Some(&(any, _)) = queue.first() {
            queue.sort_unstable_by_key(|(number, _)| number.wrapping_sub(any));
        }
        Self(queue)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(_, name)| name.as_str())
    }

    pub(super) fn turn_of(&self, name: &str) -> Turn<'_> {
        match self.0.iter().position(|(_, found)| found == name) {
            None => Turn::Missing,
            Some(0) => Turn::First,
            Some(at) => Turn::After(&self.0[at - 1].1, at == 1),
        }
    }
}

/// The number that ZooKeeper gave a znode.
fn number(name: &str) -> Option<i32> {
    let (head, tail) = name.as_bytes().split_at_checked(name.len().checked_sub(10)?)?;
    let digits = |bytes: &[u8]| bytes.iter().all(u8::is_ascii_digit).then(|| decimal(bytes));
    // All libraries end the name that they ask for in one of these.
    let ends_name = |head: &[u8]| matches!(head.last(), Some(b'-' | b'_'));
    let number = match (tail.split_first(), head.split_last()) {
        (Some((b'-', nine)), _) if ends_name(head) => -digits(nine)?,
        (_, Some((b'-', name))) if ends_name(name) => -digits(tail)?,
        _ => digits(tail)?,
    };
    i32::try_from(number).ok()
}

fn decimal(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURATOR: &str = "_c_0b6a2f0e-6d5c-4f5e-9f0e-0123456789ab-lock-";
    const KAZOO: &str = "f3b8c1d2e4a54b6f8a7c9d0e1f2a3b4c__lock__";

    /// As Java's `%010d` writes it.
    fn znode(prefix: &str, number: i32) -> String {
        format!("{prefix}{number:010}")
    }

    #[test]
    fn reads_the_number_of_every_library() {
        for number in [
            0,
            1,
            999_999_999,
            1_000_000_000,
            i32::MAX,
            i32::MIN,
            -1_000_000_000,
            -999_999_999,
            -1,
        ] {
            for prefix in [CURATOR, KAZOO, "read-", "x_"] {
                assert_eq!(
                    super::number(&znode(prefix, number)),
                    Some(number),
                    "{prefix} {number}"
                );
            }
        }
        assert_eq!(super::number("0000000007"), Some(7));
        assert_eq!(super::number("lock0000000007"), Some(7));
        for name in [
            "",
            "identity",
            "lock-000000007",
            "lock-9999999999",
            "lock-00000000x7",
            "ü000000007",
        ] {
            assert_eq!(super::number(name), None, "{name}");
        }
    }

    #[test]
    fn tells_whose_turn_it_is() {
        let names = [
            znode(CURATOR, 9),
            znode(KAZOO, 8),
            znode("x_", 10),
            "leases".to_owned(),
        ];
        let queue = Queue::new(names.to_vec());
        assert_eq!(queue.names().len(), 3);
        assert_eq!(queue.names().next(), Some(names[1].as_str()));
        assert_eq!(queue.turn_of(&names[1]), Turn::First);
        assert_eq!(queue.turn_of(&names[0]), Turn::After(&names[1], true));
        assert_eq!(queue.turn_of(&names[2]), Turn::After(&names[0], false));
        assert_eq!(queue.turn_of(&names[3]), Turn::Missing);
        assert_eq!(Queue::new(vec![]).names().next(), None);
    }

    #[test]
    fn stays_in_order_when_the_counter_wraps() {
        let numbers = [i32::MAX - 1, i32::MAX, i32::MIN, i32::MIN + 1];
        let names: Vec<_> = numbers.iter().map(|number| znode(CURATOR, *number)).collect();
        for turned in 0..names.len() {
            let mut children = names.clone();
            children.rotate_left(turned);
            let queue = Queue::new(children);
            assert_eq!(queue.names().next(), Some(names[0].as_str()));
            assert_eq!(queue.turn_of(&names[2]), Turn::After(&names[1], false));
        }
    }
}
