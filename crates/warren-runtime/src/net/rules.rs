//! What sandboxes may reach, and who may reach them: one table of packet filters per instance.
//!
//! ```text
//! from a sandbox   a source that is not its own, addresses to go by . dropped
//!                  to the gateway address, port 53 .................. accepted
//!                  to the broker of git there (`broker.rs`) ......... accepted
//!                  to anything else of the host ..................... refused
//!                  to a sandbox of any instance ..................... refused
//!                  to an address of the host outside (`outside.rs`) . refused
//!                  to an allowed network ............................ accepted
//!                  to a private or special range .................... refused
//!                  by IPv6 to what is on a wire of the host ......... refused
//!                  to anywhere else, without rules of its own ....... accepted, NAT
//!                                    with rules .................... as `policy.rs` says
//! to a sandbox     answers to what it began ......................... accepted
//!                  anything else, from outside or the host .......... dropped
//! ```
//!
//! *Refused* is a TCP reset or an ICMP "administratively prohibited", so that a program inside
//! fails at once instead of waiting for minutes. "A sandbox" of this instance is an interface in
//! the instance's group; of any instance, one whose name begins as ours do. Chains of other tables
//! (Docker's, a firewall's) see the same packets, and any of them can still drop one.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use warren_core::egress::IpNetwork;
use warren_sys::netlink::{
    Socket,
    nftables::{
        self, BaseChain, Batch, Direction, ESTABLISHED, Expression, Family, Header, Hook, Meta,
        RELATED, Range, Reject, Verdict,
    },
};

use super::{
    Errno, INTERFACE_PREFIX, NetError,
    policy::{self, INTO_BROKER, INTO_GATE, OUTSIDE, POLICIES, Policies, TO_GATE},
    refused_with, six,
    subnet::Subnet,
};

/// Where no sandbox may go unless its network is allowed: the ranges that are not for the public
/// Internet, by first and last address.
///
/// # Source
///
/// The IANA registry of special-purpose IPv4 addresses, and RFC 5771 for multicast.
const BLOCKED: [Range; 10] = [
    four([0, 0, 0, 0], [0, 255, 255, 255]),
    four([10, 0, 0, 0], [10, 255, 255, 255]),
    four([100, 64, 0, 0], [100, 127, 255, 255]),
    four([127, 0, 0, 0], [127, 255, 255, 255]),
    four([169, 254, 0, 0], [169, 254, 255, 255]),
    four([172, 16, 0, 0], [172, 31, 255, 255]),
    four([192, 0, 0, 0], [192, 0, 0, 255]),
    four([192, 168, 0, 0], [192, 168, 255, 255]),
    four([198, 18, 0, 0], [198, 19, 255, 255]),
    four([224, 0, 0, 0], [255, 255, 255, 255]),
];

/// The chain that every packet from a sandbox to elsewhere goes through.
const FROM_SANDBOX: &str = "from-sandbox";
/// The chain that every packet from a sandbox to the host itself goes through.
const TO_HOST: &str = "to-host";
/// The chain that every packet to a sandbox goes through.
const TO_SANDBOX: &str = "to-sandbox";
/// The chain that answers with a refusal.
pub(super) const REFUSE: &str = "refuse";
/// The chain for what no sandbox may reach: it is told, and refused.
const RESERVED: &str = "reserved";
/// The chain that goes to the rules of each sandbox.
const POLICY: &str = "policy";
/// The sets of networks in [`BLOCKED`] and [`six::blocked`].
const BLOCKED_SETS: [&str; 2] = ["blocked", "blocked-6"];
/// The sets of networks that are allowed all the same.
const ALLOWED_SETS: [&str; 2] = ["allowed", "allowed-6"];
/// The set of public networks on wires of the host; all of them while it has no way out by IPv6.
pub(super) const NEAR_6: &str = "near-6";
/// The families, in the order of the sets.
const FAMILIES: [(Family, &[u8]); 2] = [(Family::Four, IPV4), (Family::Six, IPV6)];

const IPV4: &[u8] = &[2];
const IPV6: &[u8] = &[10];
const TCP: &[u8] = &[6];
const UDP: &[u8] = &[17];
const DNS_PORT: [u8; 2] = 53_u16.to_be_bytes();

/// What the rules of one instance depend on.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The instance's name.
    pub(super) instance: String,
    /// The groups its interfaces are in.
    pub(super) groups: Groups,
    /// The addresses of sandboxes.
    pub(super) subnet: Subnet,
    /// The instance's address on the host.
    pub(super) gateway: Ipv4Addr,
    /// Networks that may be reached although they are blocked.
    pub(super) allow: Vec<IpNetwork>,
    /// Whether there is IPv6 for sandboxes where the host has it.
    pub(super) six: bool,
    /// What each sandbox may reach.
    pub(super) policies: Arc<Policies>,
}

/// The groups of an instance's interfaces, which differ in one bit that the rules do not look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// Of interfaces in use.
    pub(super) live: u32,
    /// Of interfaces that are about to be removed together, and still policed until they are.
    pub(super) doomed: u32,
}

impl Groups {
    const DOOMED: u32 = 1;
    /// Far from the small numbers that administrators choose.
    const BASE: u32 = 0x7772_0000;

    /// Of the instance with this index.
    pub(super) fn of(index: u8) -> Self {
        let live = Self::BASE | u32::from(index) << 1;
        Self { live, doomed: live | Self::DOOMED }
    }

    /// Whether an interface in `group` is of this instance.
    pub(super) fn contain(self, group: u32) -> bool {
        group & !Self::DOOMED == self.live
    }
}

/// The name of an instance's table.
pub(super) fn table_name(instance: &str) -> String {
    format!("warren-{instance}")
}

/// Whether the table is there, with rules: somebody may have emptied it and left it.
pub(super) fn installed(rules: &Rules, socket: &mut Socket) -> Result<bool, NetError> {
    let operation = "look for the rules of sandboxes";
    let table = table_name(&rules.instance);
    for chain in [FROM_SANDBOX, TO_HOST, TO_SANDBOX, POLICY] {
        let there = nftables::has_rules(socket, &table, chain);
        if !there.map_err(NetError::netlink(operation))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Puts the table in place, or replaces it: there is no moment without rules.
pub(super) fn install(rules: &Rules) -> Result<(), NetError> {
    let operation = "install the rules of sandboxes (nf_tables)";
    // Nobody changes a sandbox's rules between what is read of them here and what is made of it.
    let _held = rules.policies.hold();
    let table = table_name(&rules.instance);
    let mut socket = Socket::netfilter().map_err(NetError::netlink(operation))?;
    let mut batch = without_policies(rules, &table);
    rules.policies.add_all(&mut batch);
    match batch.apply(&mut socket, operation) {
        // An ordinary user may send only so much at once.
        Err(error) if refused_with(&error, Errno::MSGSIZE) => install_in_parts(rules, &mut socket),
        other => other.map_err(NetError::netlink(operation)),
    }
}

/// Puts the table in place with nothing open for who has rules, and then the rules of each.
fn install_in_parts(rules: &Rules, socket: &mut Socket) -> Result<(), NetError> {
    let operation = "install the rules of sandboxes (nf_tables), in parts";
    let table = table_name(&rules.instance);
    let mut batch = without_policies(rules, &table);
    rules.policies.hold_back_all(&mut batch);
    batch.apply(socket, operation).map_err(NetError::netlink(operation))?;
    rules.policies.let_go_all(socket);
    Ok(())
}

fn without_policies<'a>(rules: &Rules, table: &'a str) -> Batch<'a> {
    let mut batch = Batch::new(table);
    // Creating first makes the removal succeed in any case.
    batch.create_table().delete_table().create_table();
    add_networks(&mut batch, rules);
    policy::create_sets(&mut batch);
    for chain in
        [REFUSE, RESERVED, POLICY, FROM_SANDBOX, INTO_GATE, INTO_BROKER, TO_HOST, TO_SANDBOX]
    {
        batch.create_chain(chain);
    }
    add_refuse(&mut batch);
    add_from_sandbox(&mut batch, &rules.policies);
    add_to_host(&mut batch, rules.gateway);
    add_to_sandbox(&mut batch);
    add_base_chains(&mut batch, rules);
    batch
}

/// Removes the table, if there is one.
pub(super) fn remove(rules: &Rules) -> Result<(), NetError> {
    let operation = "remove the rules of sandboxes";
    let table = table_name(&rules.instance);
    let mut batch = Batch::new(&table);
    batch.create_table().delete_table();
    let mut socket = Socket::netfilter().map_err(NetError::netlink(operation))?;
    batch.apply(&mut socket, operation).map_err(NetError::netlink(operation))
}

fn add_networks(batch: &mut Batch<'_>, rules: &Rules) {
    let allowed = |family| {
        let of_family = |it: &&IpNetwork| Family::of(it.address()) == family;
        six::ranges(&rules.allow.iter().filter(of_family).copied().collect::<Vec<_>>())
    };
    let [blocked, blocked_6] = BLOCKED_SETS;
    batch.create_set(blocked, Family::Four, &BLOCKED);
    batch.create_set(blocked_6, Family::Six, &six::blocked());
    for ((family, _), name) in FAMILIES.into_iter().zip(ALLOWED_SETS) {
        batch.create_set(name, family, &allowed(family));
    }
    batch.create_set(NEAR_6, Family::Six, &rules.policies.outside().seen().closed());
}

fn add_refuse(batch: &mut Batch<'_>) {
    batch
        .add_rule(REFUSE, &[meta(Meta::Protocol, TCP), Expression::Reject(Reject::TcpReset)])
        .add_rule(REFUSE, &[Expression::Reject(Reject::Prohibited)]);
}

fn add_from_sandbox(batch: &mut Batch<'_>, policies: &Policies) {
    let group = policies.group();
    let refuse = Expression::Verdict(Verdict::Jump(REFUSE));
    let goto = |chain| Expression::Verdict(Verdict::Goto(chain));
    let seldom = Expression::Limit { per_second: 20, burst: 40 };
    batch
        .add_rule(RESERVED, &[seldom, Expression::Log { group, prefix: "denied" }])
        .add_rule(RESERVED, &[goto(REFUSE)])
        .add_rule(POLICY, &[Expression::ChainOfInput(POLICIES)])
        .add_rule(POLICY, &[Expression::Verdict(Verdict::Accept)]);
    batch.add_rule(FROM_SANDBOX, &[meta(Meta::OutputName, INTERFACE_PREFIX.as_bytes()), refuse]);
    if policies.has_host() {
        let [is_of, is_in] =
            [meta(Meta::Family, IPV4), Expression::DestinationIn(Family::Four, OUTSIDE)];
        batch.add_rule(FROM_SANDBOX, &[is_of, is_in, goto(RESERVED)]);
    }
    let to =
        |number, family, set| [meta(Meta::Family, number), Expression::DestinationIn(family, set)];
    for (((family, number), allowed), blocked) in
        FAMILIES.into_iter().zip(ALLOWED_SETS).zip(BLOCKED_SETS)
    {
        for (set, chain) in [(allowed, POLICY), (blocked, RESERVED)] {
            let [is_of, is_in] = to(number, family, set);
            batch.add_rule(FROM_SANDBOX, &[is_of, is_in, goto(chain)]);
        }
    }
    let [is_of, is_in] = to(IPV6, Family::Six, NEAR_6);
    batch
        .add_rule(FROM_SANDBOX, &[is_of, is_in, goto(RESERVED)])
        .add_rule(FROM_SANDBOX, &[goto(POLICY)]);
}

fn add_to_host(batch: &mut Batch<'_>, gateway: Ipv4Addr) {
    let gateway = gateway.octets();
    for protocol in [UDP, TCP] {
        batch.add_rule(
            TO_HOST,
            &[
                meta(Meta::Family, IPV4),
                Expression::Payload { base: Header::Network, offset: 16, value: &gateway },
                meta(Meta::Protocol, protocol),
                Expression::Payload { base: Header::Transport, offset: 2, value: &DNS_PORT },
                Expression::Verdict(Verdict::Accept),
            ],
        );
    }
    batch
        .add_rule(TO_HOST, &[Expression::Verdict(Verdict::Jump(INTO_GATE))])
        .add_rule(TO_HOST, &[Expression::Verdict(Verdict::Jump(INTO_BROKER))])
        .add_rule(TO_HOST, &[Expression::Verdict(Verdict::Jump(REFUSE))]);
}

fn add_to_sandbox(batch: &mut Batch<'_>) {
    batch
        .add_rule(
            TO_SANDBOX,
            &[
                Expression::ConnectionState(ESTABLISHED | RELATED),
                Expression::Verdict(Verdict::Accept),
            ],
        )
        // From another instance's sandbox, whose own rules may come after these.
        .add_rule(
            TO_SANDBOX,
            &[
                meta(Meta::InputName, INTERFACE_PREFIX.as_bytes()),
                Expression::Verdict(Verdict::Jump(REFUSE)),
            ],
        )
        .add_rule(TO_SANDBOX, &[Expression::Verdict(Verdict::Drop)]);
}

fn add_base_chains(batch: &mut Batch<'_>, rules: &Rules) {
    let Groups { live: group, .. } = rules.groups;
    let mask = !Groups::DOOMED;
    let from = Expression::Group { of: Direction::Input, mask, group };
    let to = Expression::Group { of: Direction::Output, mask, group };
    let jump = |chain| Expression::Verdict(Verdict::Jump(chain));
    let drop = Expression::Verdict(Verdict::Drop);
    let six = meta(Meta::Family, IPV6);
    let prefix = six::PREFIX_BITS;
    let foreign = Expression::Source { network: six::PREFIX.into(), prefix, not: true };
    batch.create_base_chain("prerouting", filter(Hook::Prerouting, -300));
    if rules.six {
        batch
            // Also what neighbours and routers say to each other: nothing is asked on this wire.
            .add_rule("prerouting", &[from, six, foreign, drop])
            // Where such a packet goes is not where it says.
            .add_rule("prerouting", &[from, six, Expression::RoutingHeader, drop]);
    } else {
        batch.add_rule("prerouting", &[from, six, drop]);
    }
    batch
        // Strict reverse-path filtering that no setting of the host weakens.
        .add_rule("prerouting", &[from, Expression::SourceMissing, drop]);
    batch
        .create_base_chain("forward", filter(Hook::Forward, 0))
        .add_rule("forward", &[from, jump(FROM_SANDBOX)])
        .add_rule("forward", &[to, jump(TO_SANDBOX)]);
    batch
        .create_base_chain("input", filter(Hook::Input, 0))
        .add_rule("input", &[from, jump(TO_HOST)]);
    batch
        .create_base_chain("output", filter(Hook::Output, 0))
        .add_rule("output", &[to, jump(TO_SANDBOX)]);
    let redirecting = BaseChain { kind: "nat", hook: Hook::Prerouting, priority: -100 };
    batch.create_base_chain(TO_GATE, redirecting);
    let nat = BaseChain { kind: "nat", hook: Hook::Postrouting, priority: 100 };
    let elsewhere =
        Expression::Meta { key: Meta::OutputName, not: true, value: INTERFACE_PREFIX.as_bytes() };
    batch.create_base_chain("postrouting", nat);
    let subnet = (rules.subnet.network().into(), rules.subnet.prefix());
    for (number, (network, prefix)) in
        [(IPV4, subnet), (IPV6, (six::PREFIX.into(), six::PREFIX_BITS))]
    {
        let source = Expression::Source { network, prefix, not: false };
        batch.add_rule(
            "postrouting",
            &[elsewhere, meta(Meta::Family, number), source, Expression::Masquerade],
        );
    }
}

fn filter(hook: Hook, priority: i32) -> BaseChain {
    BaseChain { kind: "filter", hook, priority }
}

fn meta(key: Meta, value: &[u8]) -> Expression<'_> {
    Expression::Meta { key, not: false, value }
}

const fn four(first: [u8; 4], last: [u8; 4]) -> Range {
    let ([a, b, c, d], [e, f, g, h]) = (first, last);
    (IpAddr::V4(Ipv4Addr::new(a, b, c, d)), IpAddr::V4(Ipv4Addr::new(e, f, g, h)))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use warren_core::spec::Network;
    use warren_sys::netns;

    use super::{
        super::{
            credentials::Needs,
            policy::{Before, Policy, Setting},
            worker::Workers,
        },
        *,
    };

    #[test]
    fn blocked_ranges_are_whole_networks_that_ascend_and_do_not_touch() {
        for pair in BLOCKED.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{pair:?}");
        }
        for (first, last) in BLOCKED {
            assert!(warren_core::egress::reserved(first).is_some(), "{first}");
            assert!(warren_core::egress::reserved(last).is_some(), "{last}");
        }
    }

    /// In a namespace of its own, where the kernel has packet filters and we may change them.
    fn try_in_parts() -> Result<(), String> {
        let missing =
            |error: &dyn std::error::Error| format!("SKIPPED: no packet filters: {error}");
        netns::unshare().map_err(|error| missing(&error))?;
        let workers = Workers::new(netns::current().map_err(|error| missing(&error))?);
        let egress = "allow tcp://a.example:443\notherwise deny".parse().unwrap();
        let policy = Policy::of(&Network::Rules(Arc::new(egress))).unwrap().unwrap();
        let before = |slot| Before {
            slot,
            policy: Some(policy.clone()),
            needs: Needs { web: true, all: true },
        };
        let subnet = Subnet::new(Ipv4Addr::new(10, 213, 0, 0), 16).unwrap();
        let gateway = subnet.gateway(0).unwrap();
        let setting = Setting {
            instance: "parts",
            index: 0,
            subnet,
            gateway,
            allow: Vec::new(),
            host: None,
            before: [0, 1].map(before).into(),
        };
        let policies = Policies::new(setting, &workers).map_err(|error| missing(&error))?;
        let rules = Rules {
            instance: "parts".to_owned(),
            groups: Groups::of(0),
            subnet,
            gateway,
            allow: Vec::new(),
            six: false,
            policies: Arc::clone(&policies),
        };
        install(&rules).map_err(|error| missing(&error))?;
        let mut socket = Socket::netfilter().unwrap();
        install_in_parts(&rules, &mut socket).unwrap();
        assert!(installed(&rules, &mut socket).unwrap());
        // They are there as if they had come at once: each can be taken away and given again.
        let policy = policies.policy(0);
        policies.set(0, None).unwrap();
        policies.set(0, policy).unwrap();
        policies.forget(1).unwrap();
        // Who is held back has no rules of their own.
        let mut batch = without_policies(&rules, "warren-parts");
        policies.hold_back_all(&mut batch);
        batch.apply(&mut socket, "hold everybody back").unwrap();
        assert!(policies.set(0, None).is_err());
        Ok(())
    }

    #[test]
    fn rules_that_do_not_fit_into_one_change_come_in_parts() {
        if let Err(skipped) = thread::spawn(try_in_parts).join().unwrap() {
            println!("{skipped}");
        }
    }
}
