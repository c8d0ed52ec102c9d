//! The server that has the keys: the one that the url names, the master that Sentinel names, or the node of a Cluster that
//! serves our slot.
//!
//! All keys of a deployment share a hash tag, so a Cluster has one server for them too. Each new connection looks it up
//! again. A connection to a server that no longer has the keys is broken (see [`is_broken`]).

use futures::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, RedisError, RedisResult, ServerErrorKind, TlsCertificates, TlsMode, Value,
    aio::MultiplexedConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use super::RedisOptions;
use crate::BusError;

/// The way to the server that has the keys.
pub(super) enum Endpoint {
    Single(Client),
    /// Locked, since it keeps which Sentinel answered last.
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Cluster),
}

/// A Cluster, by the nodes that the url names.
pub(super) struct Cluster {
    seeds: Vec<ConnectionInfo>,
    ca: Option<Vec<u8>>,
    /// Any of our keys: all are in the same slot.
    key: String,
}

impl Endpoint {
    /// Parses `redis://`, `rediss://` and `redis+unix://`, and with several comma-separated nodes
    /// `redis+sentinel://[user:password@]node,node/master-name` and `redis+cluster://[user:password@]node,node`, each also
    /// with TLS as `rediss+…`.
    ///
    /// [`BusError::Unfit`] when it is none of these. The error does not contain the url, which may contain a password.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, BusError> {
        let unfit = |reason: &str| BusError::Unfit {
            reason: format!("its url is not usable: {reason}"),
        };
        let url = options.url.expose_secret();
        let parse = |url: &str| {
            let info = url
                .into_connection_info()
                .map_err(|error| unfit(error.category()))?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                return Err(unfit(
                    "certificates are always verified, so it cannot end in #insecure",
                ));
            }
            // Requests and replies are small and alternate: Nagle's algorithm would delay them.
            let tcp = info.tcp_settings().clone().set_nodelay(true);
            // Replies are parsed in the form of the older protocol, whatever the url names.
            let settings = info
                .redis_settings()
                .clone()
                .set_protocol(ProtocolVersion::RESP2);
            Ok(info.set_tcp_settings(tcp).set_redis_settings(settings))
        };
        let Some((scheme, kind, rest)) = several(url) else {
            let client = client(parse(url)?, options.ca.as_deref())
                .map_err(|error| unfit(error.category()))?;
            return Ok(Self::Single(client));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (format!("{credentials}@"), hosts),
            None => (String::new(), authority),
        };
        let nodes = hosts.split(',').filter(|host| !host.is_empty());
        let nodes: Vec<ConnectionInfo> = nodes
            .map(|host| parse(&format!("{scheme}://{credentials}{host}")))
            .collect::<Result<_, _>>()?;
        if nodes.is_empty() {
            return Err(unfit("it names no node"));
        }
        match kind {
            "cluster" if !path.is_empty() => Err(unfit(
                "a cluster has one database, so nothing follows its nodes",
            )),
            "cluster" => Ok(Self::Cluster(Cluster {
                seeds: nodes,
                ca: options.ca.clone(),
                key: format!("{{{}}}", options.namespace),
            })),
            "sentinel" if path.is_empty() => Err(unfit(
                "it names no master, as in redis+sentinel://node,node/master",
            )),
            "sentinel" => {
                let client = sentinel(&nodes, path, scheme == "rediss", options.ca.clone());
                Ok(Self::Sentinel(Box::new(Mutex::new(
                    client.map_err(|error| unfit(error.category()))?,
                ))))
            }
            _ => Err(unfit(
                "known are redis, redis+unix, redis+sentinel and redis+cluster, with TLS rediss…",
            )),
        }
    }

    /// A connection to the server that has the keys now.
    pub(super) async fn connect(
        &self,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        match self {
            Self::Single(client) => {
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            Self::Sentinel(sentinel) => {
                let client = sentinel.lock().await.async_get_client().await?;
                client
                    .get_multiplexed_async_connection_with_config(config)
                    .await
            }
            Self::Cluster(cluster) => cluster.connect(config).await,
        }
    }

    /// Whether the url names the server itself, so that no other can take its place.
    pub(super) fn is_single(&self) -> bool {
        matches!(self, Self::Single(_))
    }
}

/// The scheme, the kind and the rest of a url with several nodes.
fn several(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (scheme, kind) = scheme.split_once('+')?;
    (kind != "unix").then_some((scheme, kind, rest))
}

fn client(info: ConnectionInfo, ca: Option<&[u8]>) -> RedisResult<Client> {
    match info.addr() {
        ConnectionAddr::TcpTls { .. } => Client::build_with_tls(
            info,
            TlsCertificates {
                client_tls: None,
                root_cert: ca.map(<[u8]>::to_vec),
            },
        ),
        _ => Client::open(info),
    }
}

fn sentinel(
    nodes: &[ConnectionInfo],
    master: &str,
    tls: bool,
    ca: Option<Vec<u8>>,
) -> RedisResult<SentinelClient> {
    let (name, database) = master.split_once('/').unwrap_or((master, ""));
    let addresses = nodes.iter().map(|node| node.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?;
    if let Some(node) = nodes.first() {
        builder = builder.set_client_to_redis_tcp_settings(node.tcp_settings().clone());
        if let Some(password) = node.redis_settings().password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = node.redis_settings().username() {
            builder = builder.set_client_to_redis_username(user);
        }
    }
    if !database.is_empty() {
        let unknown = |_| {
            RedisError::from((
                ErrorKind::InvalidClientConfig,
                "the database is not a number",
            ))
        };
        builder = builder.set_client_to_redis_db(database.parse().map_err(unknown)?);
    }
    if tls {
        let certificates = || TlsCertificates {
            client_tls: None,
            root_cert: ca.clone(),
        };
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates());
    }
    builder.build()
}

impl Cluster {
    /// A connection to the node that serves our slot. All seeds are queried at once, so that those that are down delay
    /// nothing. One may not know yet that a master is down; when its answer leads nowhere, the next answer counts.
    async fn connect(&self, config: &AsyncConnectionConfig) -> RedisResult<MultiplexedConnection> {
        let mut failure = RedisError::from((
            ErrorKind::ClusterConnectionNotFound,
            "no node serves our slot",
        ));
        let mut answers: FuturesUnordered<_> = self
            .seeds
            .iter()
            .map(|seed| self.query(seed, config))
            .collect();
        while let Some(answer) = answers.next().await {
            let connected = match answer {
                Ok(Some(master)) => {
                    master
                        .get_multiplexed_async_connection_with_config(config)
                        .await
                }
                Ok(None) => continue,
                Err(error) => Err(error),
            };
            match connected {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Queries a seed for the master of our slot.
    async fn query(
        &self,
        seed: &ConnectionInfo,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<Option<Client>> {
        let asked = client(seed.clone(), self.ca.as_deref())?;
        let mut connection = asked
            .get_multiplexed_async_connection_with_config(config)
            .await?;
        let slot: u16 = redis::cmd("CLUSTER")
            .arg("KEYSLOT")
            .arg(&self.key)
            .query_async(&mut connection)
            .await?;
        // Ranges of slots, each with its nodes, the master first: (first, last, (host, port, id, …), …).
        let ranges: Vec<Vec<Value>> = redis::cmd("CLUSTER")
            .arg("SLOTS")
            .query_async(&mut connection)
            .await?;
        for range in ranges {
            let [first, last, Value::Array(master), ..] = &range[..] else {
                continue;
            };
            let (first, last): (u16, u16) = (
                redis::from_redis_value_ref(first)?,
                redis::from_redis_value_ref(last)?,
            );
            let [host, port, ..] = &master[..] else {
                continue;
            };
            if (first..=last).contains(&slot) {
                // A node that does not know its own name means itself.
                let host: Option<String> = redis::from_redis_value_ref(host)?;
                let host = host.filter(|host| !host.is_empty() && host != "?");
                let addr = moved(seed.addr(), host, redis::from_redis_value_ref(port)?);
                return client(seed.clone().set_addr(addr), self.ca.as_deref()).map(Some);
            }
        }
        Ok(None)
    }
}

/// The same kind of address, with another host and port.
fn moved(addr: &ConnectionAddr, to: Option<String>, port: u16) -> ConnectionAddr {
    match addr.clone() {
        ConnectionAddr::Tcp(host, _) => ConnectionAddr::Tcp(to.unwrap_or(host), port),
        ConnectionAddr::TcpTls {
            host,
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: to.unwrap_or(host),
            port,
            insecure,
            tls_params,
        },
        other => other,
    }
}

/// Whether a connection is of no use after this error: it was closed, did not answer in time, or leads to a server that no
/// longer has the keys.
///
/// `ASK` is not followed: while a slot moves to another node, its keys are on both, and our scripts need all of them. The
/// old node replies `ASK` for keys that have moved, until the new node has all.
pub(super) fn is_broken(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, ReadOnly};
    error.is_io_error()
        || error.is_connection_dropped()
        || matches!(error.kind(), ErrorKind::Server(Moved | Ask | ReadOnly | MasterDown | ClusterDown))
        // The reply to a wait on a master that became a replica.
        || has_code(error, "UNBLOCKED")
        || has_code(error, "READONLY")
}

/// Whether the server replied with this error code. Redis 6.2 wraps the error of a command in a script: "ERR Error running
/// script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica."
pub(super) fn has_code(error: &RedisError, code: &str) -> bool {
    let wrapped = || {
        error
            .detail()
            .is_some_and(|detail| detail.contains(&format!(": -{code} ")))
    };
    error
        .code()
        .is_some_and(|found| found == code || found == "ERR" && wrapped())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, String> {
        let options = RedisOptions {
            url: url.into(),
            namespace: "x".to_owned(),
            ca: None,
            waiters: 1,
        };
        Endpoint::new(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_url_is_read_and_a_wrong_one_is_refused_without_its_password() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        for (url, expected) in [
            ("redis://localhost/1", "single"),
            ("rediss://:secret@localhost:6380", "single"),
            ("redis+unix:///run/redis.sock", "single"),
            ("unix:///run/redis.sock", "single"),
            (
                "redis+sentinel://user:secret@a:26379,b:26379/main/2",
                "sentinel",
            ),
            ("rediss+sentinel://a/main", "sentinel"),
            (
                "redis+cluster://:secret@a:7000,b:7001,[::1]:7002",
                "cluster of 3",
            ),
            ("rediss+cluster://a:7000", "cluster of 1"),
            ("redis+sentinel://:secret@a:26379", "names no master"),
            ("redis+cluster://:secret@", "names no node"),
            ("rediss://:secret@a/#insecure", "always verified"),
            ("rediss+cluster://:secret@a/#insecure", "nothing follows"),
            ("redis+cluster://:secret@a/1", "nothing follows"),
            ("redis+sentinel://:secret@a/main/x", "not usable"),
            ("redis+magic://:secret@a", "known are"),
            ("secret", "not usable"),
            ("http://:secret@a", "not usable"),
        ] {
            let found = match endpoint(url) {
                Ok(Endpoint::Single(_)) => "single".to_owned(),
                Ok(Endpoint::Sentinel(_)) => "sentinel".to_owned(),
                Ok(Endpoint::Cluster(cluster)) => format!("cluster of {}", cluster.seeds.len()),
                Err(error) => error,
            };
            assert!(found.contains(expected), "{url}: {found}");
            assert!(!found.contains("secret"), "{url}: {found}");
        }
    }
}
