//! A sandbox's rules as rules of the kernel.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use warren_core::egress::{Action, Egress, Mode, PortRange, Protocol, Rule, Target};
use warren_sys::netlink::nftables::{
    Batch, ESTABLISHED, Elements, Expression, Header, Keys, Meta, NEW, RELATED, Verdict,
    interface_key,
};

use super::{Place, Policy};
use crate::net::{interface_name, rules::REFUSE};

/// The map from interfaces of sandboxes with rules to their chains.
pub(in crate::net) const POLICIES: &str = "policies";
/// The interfaces of sandboxes whose connections go through the gate.
const GATED: &str = "gated";
/// What is answered: mark and rule with an address, as long as the answer lives.
const ANSWERED: &str = "answered";
/// What was answered once, for connections that are there.
const KNOWN: &str = "known";
/// The chain that sends connections to the gate.
pub(in crate::net) const TO_GATE: &str = "to-gate";
/// The chain that lets them in.
pub(in crate::net) const INTO_GATE: &str = "into-gate";

/// How long a connection may be idle and still be known by the name of its other side.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// The ports that names are looked at on.
const LOOKED_AT: [u16; 2] = [80, 443];
/// How many packets are logged in a second, and at once.
const DENIALS: (u32, u32) = (20, 40);
const SIGHTS: (u32, u32) = (200, 400);

const TCP: &[u8] = &[6];
const UDP: &[u8] = &[17];
const ICMP: &[u8] = &[1];
const IPV4: &[u8] = &[2];
const ACCEPT: Expression<'_> = Expression::Verdict(Verdict::Accept);

/// Makes the sets that all sandboxes share.
pub(in crate::net) fn create_sets(batch: &mut Batch<'_>) {
    batch
        .create_keyed_set(POLICIES, Keys::Interface, Elements::Chains)
        .create_keyed_set(GATED, Keys::Interface, Elements::Plain)
        .create_keyed_set(ANSWERED, Keys::Answer, Elements::Timed)
        .create_keyed_set(KNOWN, Keys::Answer, Elements::Timed);
}

/// Whether connections to 80 and 443 go through the gate.
pub(super) fn is_gated(egress: &Egress) -> bool {
    egress.mode == Mode::Enforce && egress.has_domains()
}

/// The names of what one sandbox has.
struct Names {
    rules: String,
    allowed: String,
    denied: String,
}

impl Names {
    fn of(slot: u32) -> Self {
        Self {
            rules: format!("rules-{slot}"),
            allowed: format!("allow-{slot}"),
            denied: format!("deny-{slot}"),
        }
    }
}

/// The counter of connections that a sandbox made.
pub(super) fn made_counter(slot: u32) -> String {
    format!("made-{slot}")
}

/// The counter of packets that were denied.
pub(super) fn denied_counter(slot: u32) -> String {
    format!("denied-{slot}")
}

/// Puts rules in force, in place of those there may be.
pub(super) fn add(batch: &mut Batch<'_>, place: &Place, policy: &Policy, group: u16) {
    let slot = place.slot();
    let names = Names::of(slot);
    let (made, denied) = (made_counter(slot), denied_counter(slot));
    batch.create_counter(&made).create_counter(&denied);
    for chain in [&names.rules, &names.allowed, &names.denied] {
        batch.create_chain(chain).flush_chain(chain);
    }
    batch.add_rule(
        &names.allowed,
        &[Expression::SetMark(policy.mark), Expression::Count(&made), ACCEPT],
    );
    let (per_second, burst) = DENIALS;
    batch
        .add_rule(&names.denied, &[Expression::Count(&denied)])
        .add_rule(
            &names.denied,
            &[Expression::Limit { per_second, burst }, Expression::Log { group, prefix: "denied" }],
        )
        .add_rule(&names.denied, &[Expression::Verdict(Verdict::Goto(REFUSE))]);
    batch.add_rule(&names.rules, &[Expression::Mark(policy.mark), ACCEPT]);
    match policy.egress.mode {
        Mode::Enforce => add_rules(batch, &names, policy),
        Mode::DryRun | Mode::Learn => {
            let (per_second, burst) = SIGHTS;
            let log = Expression::Log { group, prefix: "seen" };
            batch
                .add_rule(&names.rules, &[Expression::Limit { per_second, burst }, log])
                .add_rule(&names.rules, &[Expression::Verdict(Verdict::Goto(&names.allowed))]);
        }
    }
    let key = interface_key(&interface_name(slot));
    batch.add_chain_for(POLICIES, &key, &names.rules);
    if is_gated(&policy.egress) {
        batch.add_key(GATED, &key);
    }
    add_answers(batch, place, policy);
}

/// Takes rules back: the sandbox is open then.
pub(super) fn remove(batch: &mut Batch<'_>, place: &Place, policy: &Policy) {
    let slot = place.slot();
    let names = Names::of(slot);
    batch.delete_key(POLICIES, &interface_key(&interface_name(slot)));
    if is_gated(&policy.egress) {
        remove_from_gate(batch, slot);
    }
    for chain in [&names.rules, &names.allowed, &names.denied] {
        batch.flush_chain(chain);
    }
    for chain in [&names.rules, &names.allowed, &names.denied] {
        batch.delete_chain(chain);
    }
    batch.delete_counter(&made_counter(slot)).delete_counter(&denied_counter(slot));
}

/// Has connections of a sandbox not go through the gate any more.
pub(super) fn remove_from_gate(batch: &mut Batch<'_>, slot: u32) {
    batch.delete_key(GATED, &interface_key(&interface_name(slot)));
}

/// The rules themselves.
fn add_rules(batch: &mut Batch<'_>, names: &Names, policy: &Policy) {
    let egress = &policy.egress;
    let deny = Expression::Verdict(Verdict::Goto(&names.denied));
    if egress.has_domains() {
        add_closures(batch, &names.rules, deny);
    }
    for (place, rule) in egress.rules.iter().enumerate() {
        let verdict = match rule.action {
            Action::Allow => Expression::Verdict(Verdict::Goto(&names.allowed)),
            Action::Deny => deny,
        };
        let numbers = [policy.mark, u32::try_from(place).unwrap_or(u32::MAX)];
        for target in targets(rule, numbers) {
            for which in packets(rule) {
                let mut steps = target.clone();
                steps.extend(which);
                steps.push(verdict);
                batch.add_rule(&names.rules, &steps);
            }
        }
    }
    let otherwise = match egress.otherwise {
        Action::Allow => &names.allowed,
        Action::Deny => &names.denied,
    };
    batch.add_rule(&names.rules, &[Expression::Verdict(Verdict::Goto(otherwise))]);
}

/// Closes the ways around names: new connections that the gate should have got, HTTP/3, and other
/// resolvers.
fn add_closures<'a>(batch: &mut Batch<'_>, chain: &str, deny: Expression<'a>) {
    for port in LOOKED_AT {
        let fresh = Expression::ConnectionState(NEW);
        batch.add_rule(chain, &[fresh, protocol(TCP), Expression::Ports((port, port)), deny]);
    }
    for (which, port) in [(UDP, 443), (TCP, 853), (UDP, 853), (TCP, 53), (UDP, 53)] {
        batch.add_rule(chain, &[protocol(which), Expression::Ports((port, port)), deny]);
    }
}

/// The conditions on the address that a rule stands for; none where it says nothing about packets.
fn targets(rule: &Rule, numbers: [u32; 2]) -> Vec<Vec<Expression<'static>>> {
    let four = Expression::Meta { key: Meta::Family, not: false, value: IPV4 };
    match &rule.to {
        Target::Any => vec![Vec::new()],
        Target::Net(network) => match network.address() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(network.prefix())).unwrap_or(0);
                let net = Expression::DestinationNet { network: address, mask: mask.into() };
                vec![vec![four, net]]
            }
            // Sandboxes have no IPv6.
            IpAddr::V6(_) => Vec::new(),
        },
        Target::Domain(_) if rule.action == Action::Allow => {
            let there = Expression::ConnectionState(ESTABLISHED | RELATED);
            let answered = Expression::Answered { set: ANSWERED, numbers };
            let known = Expression::Answered { set: KNOWN, numbers };
            vec![vec![four, answered], vec![four, there, known]]
        }
        // Its addresses may be others' too. It has none answered, and the gate sees its name.
        Target::Domain(_) => Vec::new(),
    }
}

/// The conditions on protocol and port that a rule stands for, each a way to match.
fn packets(rule: &Rule) -> Vec<Vec<Expression<'static>>> {
    let ranges = rule.ports.ranges();
    let protocols: &[&[u8]] = match rule.protocol {
        Protocol::Any if ranges.is_empty() => return vec![Vec::new()],
        Protocol::Any => &[TCP, UDP],
        Protocol::Tcp => &[TCP],
        Protocol::Udp => &[UDP],
        Protocol::Icmp => &[ICMP],
    };
    let mut ways = Vec::new();
    for which in protocols {
        if ranges.is_empty() {
            ways.push(vec![protocol(which)]);
        }
        for PortRange { first, last } in ranges {
            ways.push(vec![protocol(which), Expression::Ports((*first, *last))]);
        }
    }
    ways
}

fn protocol(which: &'static [u8]) -> Expression<'static> {
    Expression::Meta { key: Meta::Protocol, not: false, value: which }
}

/// What an answer opens: the rules that allow the name, each with the addresses.
pub(super) fn keys(policy: &Policy, name: &str, addresses: &[Ipv4Addr]) -> Vec<[u8; 12]> {
    if policy.egress.mode != Mode::Enforce {
        return Vec::new();
    }
    let mut keys = Vec::new();
    for (place, rule) in policy.egress.rules.iter().enumerate() {
        let by_name = matches!(&rule.to, Target::Domain(domain) if domain.contains(name));
        if by_name && rule.action == Action::Deny && rule.is_for_everything() {
            break;
        }
        if by_name && rule.action == Action::Allow {
            keys.extend(addresses.iter().map(|address| key(policy.mark, place, *address)));
        }
    }
    keys
}

fn key(mark: u32, rule: usize, address: Ipv4Addr) -> [u8; 12] {
    let rule = u32::try_from(rule).unwrap_or(u32::MAX);
    let mut key = [0; 12];
    let parts = [mark.to_ne_bytes(), rule.to_ne_bytes(), address.octets()];
    for (place, byte) in key.iter_mut().zip(parts.into_iter().flatten()) {
        *place = byte;
    }
    key
}

/// Opens what was answered, for this long; those of `there` have a shorter life now.
pub(super) fn renew(batch: &mut Batch<'_>, keys: &[[u8; 12]], life: Duration, there: &[Ipv4Addr]) {
    for key in keys {
        let address: Option<[u8; 4]> = key.last_chunk().copied();
        if address.is_some_and(|it| there.contains(&it.into())) {
            batch.delete_key(ANSWERED, key);
        }
        batch.add_timed(ANSWERED, key, life).add_timed(KNOWN, key, KNOWN_FOR);
    }
}

/// Opens what was answered before these rules were in force.
fn add_answers(batch: &mut Batch<'_>, place: &Place, policy: &Policy) {
    for (name, address, left) in place.answers().all(Instant::now()) {
        for key in keys(policy, name, &[address]) {
            if !left.is_zero() {
                batch.add_timed(ANSWERED, &key, left);
            }
            batch.add_timed(KNOWN, &key, KNOWN_FOR);
        }
    }
}

/// Sends nothing to the gate.
pub(super) fn flush_gate(batch: &mut Batch<'_>) {
    batch.flush_chain(TO_GATE).flush_chain(INTO_GATE);
}

/// Sends connections to the gate at this port, and lets in what was sent there.
pub(super) fn add_gate(batch: &mut Batch<'_>, gateway: Ipv4Addr, port: u16) {
    let four = Expression::Meta { key: Meta::Family, not: false, value: IPV4 };
    for looked_at in LOOKED_AT {
        batch.add_rule(
            TO_GATE,
            &[
                Expression::InputIn(GATED),
                four,
                protocol(TCP),
                Expression::Ports((looked_at, looked_at)),
                Expression::Redirect { address: gateway, port },
            ],
        );
    }
    let octets = gateway.octets();
    batch.add_rule(
        INTO_GATE,
        &[
            four,
            Expression::Payload { base: Header::Network, offset: 16, value: &octets },
            protocol(TCP),
            Expression::Ports((port, port)),
            // Whoever comes by itself has no destination that could be decided about.
            Expression::Redirected,
            ACCEPT,
        ],
    );
}
