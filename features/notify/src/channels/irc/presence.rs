//! The channels that the client joins, across connections.

use super::{bucket::Bucket, target::same};

/// The maximum number of channels. For a further one, the client leaves the one whose last line is the oldest.
const MAX_CHANNELS: usize = 20;
/// The maximum length of the channels in a JOIN, in bytes.
const MAX_JOIN: usize = 400;

/// The channels that every connection joins, and the rate of lines.
pub(super) struct Presence {
    /// The channel that the client never leaves.
    default: String,
    /// The other channels, by the time of their last line.
    others: Vec<String>,
    /// The maximum number of others.
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

    /// The parameters of JOIN: lists of channels that each fit into a line.
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

    /// Makes `channel` the one with the newest line.
    pub(super) fn mark_used(&mut self, channel: &str) {
        self.forget(channel);
        if !same(channel, &self.default) {
            self.others.push(channel.to_owned());
        }
    }

    /// Removes a channel that the client has left, or that refuses it.
    pub(super) fn forget(&mut self, channel: &str) {
        self.others.retain(|other| !same(other, channel));
    }

    /// Removes and returns the channel to leave before another is joined, if there are too many.
    pub(super) fn make_room(&mut self) -> Option<String> {
        (self.others.len() >= self.most && !self.others.is_empty()).then(|| self.others.remove(0))
    }

    /// Lowers the maximum to the present number: the server allows no more.
    pub(super) fn limit_to_current(&mut self) {
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
            presence.mark_used(&format!("#{number}"));
        }
        presence.mark_used("#CI");
        presence.mark_used("#0");
        assert_eq!(
            presence.make_room().as_deref(),
            Some("#1"),
            "the others have newer lines"
        );
        presence.mark_used("#x");
        let joined = presence.lists().join(",");
        assert!(
            joined.starts_with("#ci,#2,") && joined.ends_with(",#0,#x"),
            "{joined}"
        );
    }

    #[test]
    fn server_limit_lowers_channel_bound() {
        let mut presence = Presence::new("#ci");
        presence.limit_to_current();
        assert_eq!(presence.make_room(), None, "there is none but the default");
        presence.mark_used("#a");
        presence.limit_to_current();
        assert_eq!(presence.make_room().as_deref(), Some("#a"));
        presence.mark_used("#b");
        presence.forget("#B");
        assert_eq!(presence.lists(), ["#ci"]);
    }

    #[test]
    fn nick_list_fits_into_one_line() {
        let mut presence = Presence::new("#ci");
        for number in 10..29 {
            presence.mark_used(&format!("#{}{number}", "a".repeat(61)));
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
