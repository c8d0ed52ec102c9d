//! A client for addresses from foreign text: it connects to public addresses only.
//!
//! It checks the address of each connection: it resolves names itself, and connects to their public addresses alone. So a
//! name that resolves to another address a moment later (DNS rebinding) has no effect. It uses no proxy, since a proxy
//! resolves names on its own.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use reqwest::{
    RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
};
use thiserror::Error;
use url::{Host, Url};

use crate::client::{ClientError, builder};

/// Networks that are allowed beside public addresses.
#[derive(Debug, Clone, Default)]
pub struct Networks(Arc<[IpNet]>);

/// The error for a text that is not a list of networks.
#[derive(Debug, Error)]
#[error("{0:?} is not a network, such as 10.1.0.0/16")]
pub struct NoNetwork(String);

/// The refusal of a host without a public address.
#[derive(Debug, Clone, Error)]
#[error("{host} has no public address")]
pub struct NotPublic {
    /// The host in the requested address.
    pub host: String,
}

/// A client for addresses from foreign text. It follows no redirects: the caller requests each hop with
/// [`PublicClient::get`].
#[derive(Debug, Clone)]
pub struct PublicClient {
    http: reqwest::Client,
    allowed: Networks,
}

/// A client that connects to public addresses and to `allowed` networks only. `timeout` is for a whole request.
pub fn public_client(timeout: Duration, allowed: Networks) -> Result<PublicClient, ClientError> {
    let http = builder(timeout)
        .no_proxy()
        .dns_resolver(Resolver(allowed.clone()))
        .build()?;
    Ok(PublicClient { http, allowed })
}

impl PublicClient {
    /// A request for `url`. A host that is an address is checked here, since nothing resolves it. A name is checked when the
    /// request is sent; then [`NotPublic::within`] finds the refusal in the error.
    pub fn get(&self, url: &Url) -> Result<RequestBuilder, NotPublic> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => {
                return Err(NotPublic {
                    host: String::new(),
                });
            }
        };
        match address {
            Some(address) if !self.allowed.allow(address) => Err(NotPublic {
                host: address.to_string(),
            }),
            _ => Ok(self.http.get(url.clone())),
        }
    }
}

impl NotPublic {
    /// The refusal among the causes of `error`, if there is one.
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl Networks {
    fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for Networks {
    type Err = NoNetwork;

    /// Reads networks or single addresses, with commas or spaces between them.
    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        let network = |part: &str| {
            let single = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse()
                .or_else(|_| single())
                .map_err(|_| NoNetwork(part.chars().take(60).collect()))
        };
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

struct Resolver(Networks);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found
                .filter(|address| allowed.allow(address.ip()))
                .collect();
            if public.is_empty() {
                return Err(NotPublic {
                    host: name.as_str().to_owned(),
                }
                .into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether `address` belongs to the public internet, by IANA's registries of special-purpose addresses.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>
fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127, ..] => true,
        [100, second, ..] => (64..128).contains(&second),
        [169, 254, ..] | [192, 168, ..] => true,
        [172, second, ..] => (16..32).contains(&second),
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [first, ..] => first >= 224,
    };
    !special
}

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>
fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // A translator between the two versions (RFC 6052) leads on to the address within.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 6to4 (RFC 3056) too.
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and others of the IETF's, documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // The range that is allocated for global use.
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::{HttpError, Limits};

    #[test]
    fn special_addresses_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:4860:4860::8888",
            "2606:4700::1111",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// A server that sends `answer` on each connection, and counts the connections.
    async fn server(answer: String) -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        (port, count)
    }

    fn client(allowed: &str) -> PublicClient {
        public_client(Duration::from_secs(10), allowed.parse().unwrap()).unwrap()
    }

    async fn status(client: &PublicClient, url: &str) -> Result<u16, String> {
        let request = client
            .get(&url.parse().unwrap())
            .map_err(|refused| refused.host)?;
        match crate::open(request, Limits::body(0)).await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(HttpError::NotPublic(refusal)) => Err(refusal.host),
            Err(error) => panic!("not refused for its address: {error}"),
        }
    }

    #[tokio::test]
    async fn this_machine_is_refused_by_name_and_by_each_form_of_its_address() {
        let (port, connections) = server("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
        let client = client("");
        for (host, expected) in [
            ("localhost", "localhost"),
            ("LOCALHOST", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0", "0.0.0.0"),
            ("[::1]", "::1"),
            ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ] {
            let refused = status(&client, &format!("http://{host}:{port}/")).await;
            assert_eq!(refused, Err(expected.to_owned()), "{host}");
        }
        assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn allowed_networks_are_reached_by_name_and_by_address() {
        let (port, _) = server("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
        for allowed in ["127.0.0.0/8", "10.0.0.0/8, 127.0.0.1"] {
            let client = client(allowed);
            for host in ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"] {
                assert_eq!(
                    status(&client, &format!("http://{host}:{port}/")).await,
                    Ok(204),
                    "{allowed} {host}"
                );
            }
            assert_eq!(
                status(&client, "http://192.168.0.1/").await,
                Err("192.168.0.1".to_owned())
            );
        }
    }

    /// The caller requests each hop, so each hop is checked too.
    #[tokio::test]
    async fn redirect_is_not_followed() {
        let location =
            "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
        let (port, _) = server(location.to_owned()).await;
        assert_eq!(
            status(&client("127.0.0.1"), &format!("http://127.0.0.1:{port}/")).await,
            Ok(302)
        );
    }

    #[test]
    fn networks_are_read_and_the_error_names_a_bad_one() {
        assert!("".parse::<Networks>().unwrap().0.is_empty());
        assert_eq!(
            "10.0.0.0/8, fd00::/8 192.168.1.7"
                .parse::<Networks>()
                .unwrap()
                .0
                .len(),
            3
        );
        let error = "10.0.0.0/8,intranet".parse::<Networks>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"intranet\" is not a network, such as 10.1.0.0/16"
        );
    }
}
