//! The rate limit per client address, and the client's address behind trusted proxies.
//!
//! This module works around three properties of `tower_governor`: its key extractors either ignore `X-Forwarded-For` or
//! trust it from any peer, its `Retry-After` is 0 for waits below a second, and it never evicts an address by itself.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ipnet::IpNet;
use parking_lot::Mutex;
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use crate::protocol::{ErrorCode, Refusal};

/// The governor middleware that adds no headers to the responses to allowed requests.
type Plain = governor::middleware::NoOpMiddleware<governor::clock::QuantaInstant>;

const MAINTENANCE_INTERVAL: Duration = Duration::from_mins(1);

const MAX_REPORTED: usize = 1_000;

#[derive(Clone)]
pub(crate) struct RateLimit {
    config: Arc<GovernorConfig<ClientKey, Plain>>,
    key: ClientKey,
    refusals: Arc<Mutex<Refusals>>,
}

impl RateLimit {
    /// Returns `None`, which means no limit, if `per_second` or `burst` is 0.
    pub(crate) fn new(per_second: u32, burst: u32, trusted_proxies: Vec<IpNet>) -> Option<Self> {
        // The builder's `per_second(n)` means one request every n seconds.
        let period = Duration::from_secs(1).checked_div(per_second)?;
        let key = ClientKey { trusted_proxies: trusted_proxies.into() };
        let config =
            GovernorConfigBuilder::default().period(period).burst_size(burst).key_extractor(key.clone()).finish()?;
        Some(Self { config: Arc::new(config), key, refusals: Arc::default() })
    }

    pub(super) fn layer<S: Clone + Send + Sync + 'static>(&self, routes: Router<S>) -> Router<S> {
        let governor = GovernorLayer::new(Arc::clone(&self.config)).error_handler(|error| refused(&error));
        routes.layer(governor).layer(middleware::from_fn_with_state(self.clone(), count_refusals))
    }

    /// Evicts idle addresses and reports counted refusals. Never returns.
    pub(crate) async fn maintain(self) {
        loop {
            tokio::time::sleep(MAINTENANCE_INTERVAL).await;
            self.config.limiter().retain_recent();
            self.config.limiter().shrink_to_fit();
            let refused = self.refusals.lock().take();
            for (address, count) in refused {
                report(address, count);
            }
        }
    }
}

/// The number of refusals per address since its last report, for at most [`MAX_REPORTED`] addresses.
#[derive(Default)]
struct Refusals(HashMap<IpAddr, u64>);

impl Refusals {
    /// Returns `true` for the first refusal of an address, which the caller reports immediately; counts later refusals.
    /// Ignores new addresses while the refusals of [`MAX_REPORTED`] addresses are counted.
    fn record(&mut self, address: IpAddr) -> bool {
        if let Some(count) = self.0.get_mut(&address) {
            *count += 1;
            return false;
        }
        self.0.len() < MAX_REPORTED && self.0.insert(address, 0).is_none()
    }

    fn take(&mut self) -> Vec<(IpAddr, u64)> {
        self.0.retain(|_, count| *count > 0);
        self.0.iter_mut().map(|(&address, count)| (address, std::mem::take(count))).collect()
    }
}

async fn count_refusals(State(limit): State<RateLimit>, request: Request<Body>, next: Next) -> Response {
    let address = limit.key.extract(&request);
    let response = next.run(request).await;
    if response.status() == StatusCode::TOO_MANY_REQUESTS
        && let Ok(address) = address
        && limit.refusals.lock().record(address)
    {
        report(address, 1);
    }
    response
}

fn report(address: IpAddr, refused: u64) {
    tracing::warn!(%address, refused, "a client address exceeded its rate: see --client-rate and --client-burst");
}

fn refused(error: &GovernorError) -> Response {
    let wait = match error {
        // `wait_time` is rounded down to whole seconds.
        GovernorError::TooManyRequests { wait_time, .. } => Duration::from_secs(wait_time + 1),
        GovernorError::UnableToExtractKey | GovernorError::Other { .. } => Duration::from_secs(1),
    };
    let message = "too many requests from this client address; try again later";
    Refusal::temporary(ErrorCode::RateLimited, message, wait).into_response()
}

#[derive(Clone)]
pub(super) struct ClientKey {
    trusted_proxies: Arc<[IpNet]>,
}

impl KeyExtractor for ClientKey {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(client_network(client_address(peer.0.ip(), request.headers(), &self.trusted_proxies)))
    }
}

/// The nearest address that is not a trusted proxy; the farthest trusted proxy if no valid address follows it. Reads
/// `X-Forwarded-For` from the right, where the nearest proxy appends; entries left of the first untrusted address may
/// be forged.
fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> IpAddr {
    let trusted = |address: &IpAddr| trusted_proxies.iter().any(|network| network.contains(address));
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let mut hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut address = peer.to_canonical();
    while trusted(&address) {
        match hops.next().and_then(hop_address) {
            Some(hop) => address = hop.to_canonical(),
            None => break,
        }
    }
    address
}

fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop.trim_ascii()).ok()?;
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Maps an IPv6 address to its /64 network, which usually belongs to one subscriber (RFC 6177).
fn client_network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::http::HeaderValue;

    use super::*;

    fn address<Line: AsRef<[u8]>>(peer: &str, forwarded: &[Line]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_ref()).unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn forwarded_addresses_of_untrusted_peers_are_ignored() {
        assert_eq!(address("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.9, 192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn hops_are_read_from_the_right() {
        assert_eq!(address("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1", &["203.0.113.9", "192.0.2.1, 10.0.0.2"]), "192.0.2.1");
        assert_eq!(address("::ffff:10.0.0.1", &["::ffff:192.0.2.1"]), "192.0.2.1");
        assert_eq!(address("fd00::1", &["2001:db8::5"]), "2001:db8::5");
        assert_eq!(address("10.0.0.1", &["192.0.2.1:51234"]), "192.0.2.1");
        assert_eq!(address("10.0.0.1", &["[2001:db8::5]:51234"]), "2001:db8::5");
        assert_eq!(address("10.0.0.1", &[b"\xff, 192.0.2.1"]), "192.0.2.1");
    }

    #[test]
    fn the_last_trusted_hop_counts_if_no_valid_hop_follows() {
        assert_eq!(address("10.0.0.1", &[""; 0]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["192.0.2.1, bogus"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        assert_eq!(client_network("2001:db8:1:2:3:4:5:6".parse().unwrap()).to_string(), "2001:db8:1:2::");
    }

    #[test]
    fn an_address_is_reported_at_once_and_then_with_its_count() {
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse::<IpAddr>().unwrap());
        let mut refusals = Refusals::default();
        assert!(refusals.record(one));
        assert!(!refusals.record(one) && !refusals.record(one));
        assert!(refusals.record(other));
        assert_eq!(refusals.take(), [(one, 2)]);
        assert!(!refusals.record(one), "the address was dropped after an interval with refusals");
        assert!(refusals.record(other));
        assert_eq!(refusals.take(), [(one, 1)]);
        assert!(refusals.take().is_empty() && refusals.0.is_empty());
        let reported = (0..2_000).filter(|&number| refusals.record(Ipv4Addr::from_bits(number).into())).count();
        assert_eq!(reported, MAX_REPORTED);
    }
}
