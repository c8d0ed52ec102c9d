//! Addresses of pages about builds.

use url::Url;

use build::Phid;

/// The addresses of pages about builds that a deployment configures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildPages {
    /// The base address of the deployment's own pages.
    pub public_url: Option<Url>,
    /// A page for authors that explains how builds end, for a deployment without pages of its own.
    pub docs_url: Option<Url>,
}

impl BuildPages {
    /// `<public_url>/builds/<target>`; `None` without a `public_url`.
    pub fn build(&self, target: &Phid) -> Option<String> {
        let base = self.public_url.as_ref()?;
        Some(format!(
            "{}/builds/{target}",
            base.as_str().trim_end_matches('/')
        ))
    }

    /// The page that explains to an author why a build was not pushed: the build's own, else `docs_url`.
    pub fn why(&self, target: &Phid) -> Option<String> {
        self.build(target)
            .or_else(|| self.docs_url.as_ref().map(Url::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_page_of_a_build_is_preferred_to_the_documentation() {
        let target = Phid::parse("PHID-HMBT-00000000000000000001").unwrap();
        let url = |text: &str| Some(Url::parse(text).unwrap());
        let docs = "https://docs.example.com/builds#ends";
        let own = "https://events.example.com/try/builds/PHID-HMBT-00000000000000000001";
        let table = [
            (None, None, None),
            (None, url(docs), Some(docs)),
            (url("https://events.example.com/try"), url(docs), Some(own)),
            (url("https://events.example.com/try/"), None, Some(own)),
        ];
        for (public_url, docs_url, expected) in table {
            let pages = BuildPages {
                public_url,
                docs_url,
            };
            assert_eq!(pages.why(&target).as_deref(), expected, "{pages:?}");
        }
    }
}
