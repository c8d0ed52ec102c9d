//! The channels that we are in on IRC, across connections.

use super::{bucket::Bucket, target::same};

/// The most channels that we are in, whatever tasks name: the one whose last line is the oldest is left for another.
const MAX_CHANNELS: usize = 20;
/// The most bytes of channels in a line that joins several.
const MAX_JOIN: usize = 400;

/// The channels that every connection joins, and how much was said of late.
pub(super) struct Presence {
    /// The one that is never left.
    default: String,
    /// Which others, last the one with the newest line.
    others: Vec<String>,
    /// How many these may be.
    most: usize,
    pub(super) bucket: Bucket,
}

impl Presence {
    pub(super) fn new(default: &str) -> Self {
        Self {
            default: default.to_owned(),
            others: Vec::new(),
            most: MAX_CHANNELS - 1,
            bucket: Bucket::full(),
        }
    }

    /// Lists of channels, separated by commas, that fit into a line each.
    pub(super) fn lists(&self) -> Vec<String> {
        let mut lists = vec![self.default.clone()];
        for channel in &self.others {
            match lists
                .last_mut()
                .filter(|list| list.len() + channel.len() < MAX_JOIN)
            {
                Some(list) => {
                    list.push(',');
                    list.push_str(channel);
                }
                None => lists.push(channel.clone()),
            }
        }
        lists
    }

    /// We are in `channel`, and told news there or are about to.
    pub(super) fn told(&mut self, channel: &str) {
        self.forget(channel);
        if !same(channel, &self.default) {
            self.others.push(channel.to_owned());
        }
    }

    /// The server does not want us there.
    pub(super) fn forget(&mut self, channel: &str) {
        self.others.retain(|other| !same(other, channel));
    }

    /// The channel that is to be left before another is joined.
    pub(super) fn make_room(&mut self) -> Option<String> {
        (self.others.len() >= self.most && !self.others.is_empty()).then(|| self.others.remove(0))
    }

    /// The server allows no more than these.
    pub(super) fn is_full(&mut self) {
        self.most = self.others.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_channels_are_bounded_and_keep_the_default() {
        let mut presence = Presence::new("#ci");
        for number in 0..MAX_CHANNELS - 1 {
            assert_eq!(presence.make_room(), None);
            presence.told(&format!("#{number}"));
        }
        presence.told("#CI");
        presence.told("#0");
        assert_eq!(
            presence.make_room().as_deref(),
            Some("#1"),
            "the others were told later"
        );
        presence.told("#x");
        let joined = presence.lists().join(",");
        assert!(
            joined.starts_with("#ci,#2,") && joined.ends_with(",#0,#x"),
            "{joined}"
        );
    }

    #[test]
    fn server_limit_lowers_channel_bound() {
        let mut presence = Presence::new("#ci");
        presence.is_full();
        assert_eq!(presence.make_room(), None, "there is none but the default");
        presence.told("#a");
        presence.is_full();
        assert_eq!(presence.make_room().as_deref(), Some("#a"));
        presence.told("#b");
        presence.forget("#B");
        assert_eq!(presence.lists(), ["#ci"]);
    }

    #[test]
    fn nick_list_fits_into_one_line() {
        let mut presence = Presence::new("#ci");
        for number in 10..29 {
            presence.told(&format!("#{}{number}", "a".repeat(61)));
        }
        let lists = presence.lists();
        assert_eq!(
            lists
                .iter()
                .map(|list| list.split(',').count())
                .sum::<usize>(),
            20
        );
        assert!(
            lists
                .iter()
                .all(|list| "JOIN \r\n".len() + list.len() <= 512)
        );
    }
}
