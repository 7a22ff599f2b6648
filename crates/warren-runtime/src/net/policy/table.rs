//! A sandbox's rules as rules of the kernel.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use warren_core::egress::{Action, Mode, PortRange, Protocol, Rule, Target};
use warren_sys::netlink::nftables::{
    Batch, ESTABLISHED, Elements, Expression, Family, Header, Keys, Meta, NEW, RELATED, Verdict,
    interface_key,
};

use super::{GatePort, Place, Policy};
use crate::net::{credentials::Needs, interface_name, rules::REFUSE, six};

/// The map from interfaces of sandboxes with rules to their chains.
pub(in crate::net) const POLICIES: &str = "policies";
/// The interfaces of sandboxes whose connections to 80 and 443 go through the gate.
const GATED: &str = "gated";
/// The interfaces of sandboxes all of whose TCP does.
const PROXIED: &str = "proxied";
/// What is answered, by family: mark and rule with an address, as long as the answer lives.
const ANSWERED: [(Family, &str); 2] = [(Family::Four, "answered"), (Family::Six, "answered-6")];
/// What was answered once, for connections that are there.
const KNOWN: [(Family, &str); 2] = [(Family::Four, "known"), (Family::Six, "known-6")];
/// The host's own addresses, where this namespace is not the host's.
pub(in crate::net) const OUTSIDE: &str = "outside";
/// The chain that sends connections to the gate.
pub(in crate::net) const TO_GATE: &str = "to-gate";
/// The chain that lets them in.
pub(in crate::net) const INTO_GATE: &str = "into-gate";

/// The interfaces of sandboxes that have a session of git.
const BROKERED: &str = "brokered";
/// The chain that lets what they have for its broker in.
pub(in crate::net) const INTO_BROKER: &str = "into-broker";

/// The chain of a sandbox whose rules are about to come.
const HELD_BACK: &str = "held-back";

/// How many answers go into the transaction that changes rules; more of them follow it.
pub(super) const TOGETHER: usize = 1000;

/// How long a connection may be idle and still be known by the name of its other side.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 3600);
/// The ports that names are looked at on.
pub(in crate::net) const LOOKED_AT: [u16; 2] = [80, 443];
/// How many packets are logged in a second, and at once.
const DENIALS: (u32, u32) = (20, 40);
const SIGHTS: (u32, u32) = (200, 400);

const TCP: &[u8] = &[6];
/// Where TCP has its flags.
const TCP_FLAGS: u32 = 13;
/// A reset, and one that acknowledges: what the guest's kernel answers with, for each packet, where
/// the other end of a connection that was cut does not know it yet. Nobody tried anything.
const RESETS: [&[u8]; 2] = [&[0x04], &[0x14]];
const UDP: &[u8] = &[17];
const ICMP: &[u8] = &[1];
const ICMP_6: &[u8] = &[58];
const IPV4: &[u8] = &[2];
const IPV6: &[u8] = &[10];
const ACCEPT: Expression<'_> = Expression::Verdict(Verdict::Accept);

/// Makes the sets that all sandboxes share.
pub(in crate::net) fn create_sets(batch: &mut Batch<'_>) {
    batch
        .create_keyed_set(POLICIES, Keys::Interface, Elements::Chains)
        .create_keyed_set(GATED, Keys::Interface, Elements::Plain)
        .create_keyed_set(PROXIED, Keys::Interface, Elements::Plain)
        .create_keyed_set(BROKERED, Keys::Interface, Elements::Plain);
    for (family, set) in ANSWERED.into_iter().chain(KNOWN) {
        batch.create_keyed_set(set, Keys::Answer(family), Elements::Timed);
    }
    batch.create_keyed_set(OUTSIDE, Keys::Address, Elements::Plain);
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

/// Puts rules in force, in place of those there may be. `needs` are those of what requests are
/// given.
pub(super) fn add(batch: &mut Batch<'_>, place: &Place, policy: &Policy, needs: Needs, group: u16) {
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
    for flags in RESETS {
        let reset =
            Expression::Payload { base: Header::Transport, offset: TCP_FLAGS, value: flags };
        batch.add_rule(&names.denied, &[protocol(TCP), reset, Expression::Verdict(Verdict::Drop)]);
    }
    let (per_second, burst) = DENIALS;
    batch
        .add_rule(&names.denied, &[Expression::Count(&denied)])
        .add_rule(
            &names.denied,
            &[Expression::Limit { per_second, burst }, Expression::Log { group, prefix: "denied" }],
        )
        .add_rule(&names.denied, &[Expression::Verdict(Verdict::Goto(REFUSE))]);
    add_needs(batch, &names, needs);
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
    batch.add_chain_for(POLICIES, &interface_key(&interface_name(slot)), &names.rules);
}

/// Makes the chain of those who are held back.
pub(super) fn create_held_back(batch: &mut Batch<'_>) {
    batch.create_chain(HELD_BACK);
    // Not refused: what is allowed comes through a moment later, when it is sent again.
    batch.add_rule(HELD_BACK, &[Expression::Verdict(Verdict::Drop)]);
}

/// Lets nothing through of a sandbox until its rules are there.
pub(super) fn hold_back(batch: &mut Batch<'_>, slot: u32) {
    batch.add_chain_for(POLICIES, &interface_key(&interface_name(slot)), HELD_BACK);
}

/// Ends that, in the transaction that adds the rules.
pub(super) fn let_go(batch: &mut Batch<'_>, slot: u32) {
    batch.delete_key(POLICIES, &interface_key(&interface_name(slot)));
}

/// Takes rules back: the sandbox is open then.
pub(super) fn remove(batch: &mut Batch<'_>, place: &Place) {
    let slot = place.slot();
    let names = Names::of(slot);
    batch.delete_key(POLICIES, &interface_key(&interface_name(slot)));
    for chain in [&names.rules, &names.allowed, &names.denied] {
        batch.flush_chain(chain);
    }
    for chain in [&names.rules, &names.allowed, &names.denied] {
        batch.delete_chain(chain);
    }
    batch.delete_counter(&made_counter(slot)).delete_counter(&denied_counter(slot));
}

/// Has other connections of a sandbox go through the gate than went before.
pub(super) fn send(batch: &mut Batch<'_>, slot: u32, before: Needs, after: Needs) {
    let key = interface_key(&interface_name(slot));
    let sets = [(GATED, before.web, after.web), (PROXIED, before.all, after.all)];
    for (set, before, after) in sets {
        match (before, after) {
            (false, true) => drop(batch.add_key(set, &key)),
            (true, false) => drop(batch.delete_key(set, &key)),
            _ => {}
        }
    }
}

/// Closes the ways around the gate, also for connections that are there.
fn add_needs(batch: &mut Batch<'_>, names: &Names, needs: Needs) {
    let deny = Expression::Verdict(Verdict::Goto(&names.denied));
    if needs.all {
        // TCP goes to the gate. What a proxy does not carry would show where it comes from.
        batch.add_rule(&names.rules, &[deny]);
    }
    if needs.web {
        add_web_closures(batch, &names.rules, deny);
    }
}

/// Closes what the gate should have got, and HTTP/3.
fn add_web_closures<'a>(batch: &mut Batch<'_>, chain: &str, deny: Expression<'a>) {
    for port in LOOKED_AT {
        let fresh = Expression::ConnectionState(NEW);
        batch.add_rule(chain, &[fresh, protocol(TCP), Expression::Ports((port, port)), deny]);
    }
    batch.add_rule(chain, &[protocol(UDP), Expression::Ports((443, 443)), deny]);
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
    add_web_closures(batch, chain, deny);
    for (which, port) in [(TCP, 853), (UDP, 853), (TCP, 53), (UDP, 53)] {
        batch.add_rule(chain, &[protocol(which), Expression::Ports((port, port)), deny]);
    }
}

/// The conditions on the address that a rule stands for; none where it says nothing about packets.
fn targets(rule: &Rule, numbers: [u32; 2]) -> Vec<Vec<Expression<'static>>> {
    match &rule.to {
        Target::Any => vec![Vec::new()],
        Target::Net(network) => {
            let (network, prefix) = (network.address(), network.prefix());
            let there = Expression::Destination { network, prefix };
            vec![vec![of(Family::of(network)), there]]
        }
        Target::Domain(_) if rule.action == Action::Allow => {
            let there = Expression::ConnectionState(ESTABLISHED | RELATED);
            let by_family = |((family, answered), (_, known))| {
                let answered = Expression::Answered { family, set: answered, numbers };
                let known = Expression::Answered { family, set: known, numbers };
                [vec![of(family), answered], vec![of(family), there, known]]
            };
            ANSWERED.into_iter().zip(KNOWN).flat_map(by_family).collect()
        }
        // What was answered for it, ever. The addresses may be others' too, which are denied then.
        Target::Domain(_) => {
            let known =
                |(family, set)| vec![of(family), Expression::Answered { family, set, numbers }];
            KNOWN.into_iter().map(known).collect()
        }
    }
}

/// Matches packets of a family.
fn of(family: Family) -> Expression<'static> {
    let value = match family {
        Family::Four => IPV4,
        Family::Six => IPV6,
    };
    Expression::Meta { key: Meta::Family, not: false, value }
}

/// The conditions on protocol and port that a rule stands for, each a way to match.
fn packets(rule: &Rule) -> Vec<Vec<Expression<'static>>> {
    let ranges = rule.ports.ranges();
    let protocols: &[&[u8]] = match rule.protocol {
        Protocol::Any if ranges.is_empty() => return vec![Vec::new()],
        Protocol::Any => &[TCP, UDP],
        Protocol::Tcp => &[TCP],
        Protocol::Udp => &[UDP],
        Protocol::Icmp => &[ICMP, ICMP_6],
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

/// What is open: an address by a rule, of rules with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    mark: u32,
    rule: u32,
    address: IpAddr,
}

impl Key {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = [self.mark.to_ne_bytes(), self.rule.to_ne_bytes()].concat();
        match self.address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
        bytes
    }

    /// The name of the set of its family.
    fn set(self, sets: [(Family, &'static str); 2]) -> &'static str {
        let [(_, four), (_, six)] = sets;
        if self.address.is_ipv4() { four } else { six }
    }
}

/// What an answer opens and closes: the rules that are about the name, up to the first that denies
/// it altogether, each with the addresses.
pub(super) fn keys(policy: &Policy, name: &str, addresses: &[IpAddr]) -> Vec<Key> {
    if policy.egress.mode != Mode::Enforce {
        return Vec::new();
    }
    let mut keys = Vec::new();
    for (place, rule) in policy.egress.rules.iter().enumerate() {
        if !matches!(&rule.to, Target::Domain(domain) if domain.contains(name)) {
            continue;
        }
        let number = u32::try_from(place).unwrap_or(u32::MAX);
        let key = |address: &IpAddr| Key { mark: policy.mark, rule: number, address: *address };
        keys.extend(addresses.iter().map(key));
        if rule.action == Action::Deny && rule.is_for_everything() {
            break;
        }
    }
    keys
}

/// Opens what was answered, for this long; those of `there` have a shorter life now.
pub(super) fn renew(batch: &mut Batch<'_>, keys: &[Key], life: Duration, there: &[IpAddr]) {
    for key in keys {
        let bytes = key.bytes();
        if there.contains(&key.address) {
            batch.delete_key(key.set(ANSWERED), &bytes);
        }
        batch.add_timed(key.set(ANSWERED), &bytes, life).add_timed(
            key.set(KNOWN),
            &bytes,
            KNOWN_FOR,
        );
    }
}

/// Opens what was answered before these rules were in force.
pub(super) fn add_answers(batch: &mut Batch<'_>, place: &Place, policy: &Policy) {
    open_again(batch, answered(place, policy).into_iter().take(TOGETHER));
}

/// What of the answers did not go with the rules.
pub(super) fn rest_of_answers(place: &Place, policy: &Policy) -> Vec<(Key, Duration)> {
    answered(place, policy).into_iter().skip(TOGETHER).collect()
}

/// What was answered, and for how long it is open; those first that are so the longest.
fn answered(place: &Place, policy: &Policy) -> Vec<(Key, Duration)> {
    let answers = place.answers();
    let of_one = |(name, address, left)| {
        keys(policy, name, &[address]).into_iter().map(move |key| (key, left))
    };
    let mut all: Vec<_> = answers.all(Instant::now()).flat_map(of_one).collect();
    drop(answers);
    all.sort_by_key(|(_, left)| std::cmp::Reverse(*left));
    all
}

/// Opens these, each for as long as its answer lives.
pub(super) fn open_again(
    batch: &mut Batch<'_>,
    answered: impl IntoIterator<Item = (Key, Duration)>,
) {
    for (key, left) in answered {
        let bytes = key.bytes();
        if !left.is_zero() {
            batch.add_timed(key.set(ANSWERED), &bytes, left);
        }
        batch.add_timed(key.set(KNOWN), &bytes, KNOWN_FOR);
    }
}

/// Closes what was opened, whether it is there still or not: what was just added can be deleted.
pub(super) fn close(batch: &mut Batch<'_>, keys: &[Key]) {
    for key in keys {
        let bytes = key.bytes();
        for sets in [ANSWERED, KNOWN] {
            batch.add_timed(key.set(sets), &bytes, KNOWN_FOR).delete_key(key.set(sets), &bytes);
        }
    }
}

/// All that was opened for a sandbox by these rules, as far as it is remembered.
pub(super) fn opened(place: &Place, policy: &Policy) -> Vec<Key> {
    answered(place, policy).into_iter().map(|(key, _)| key).collect()
}

/// Lets a sandbox connect to the broker, or no longer.
pub(super) fn let_to_broker(batch: &mut Batch<'_>, slot: u32, there: bool) {
    let key = interface_key(&interface_name(slot));
    match there {
        true => batch.add_key(BROKERED, &key),
        false => batch.delete_key(BROKERED, &key),
    };
}

/// Lets what is for the broker at this port in, or nothing where there is none.
pub(super) fn set_broker(batch: &mut Batch<'_>, gateway: Ipv4Addr, port: Option<u16>) {
    batch.flush_chain(INTO_BROKER);
    let gateway = gateway.octets();
    if let Some(port) = port {
        let here = Expression::Payload { base: Header::Network, offset: 16, value: &gateway };
        let ports = Expression::Ports((port, port));
        let from = Expression::InputIn(BROKERED);
        batch.add_rule(INTO_BROKER, &[from, of(Family::Four), here, protocol(TCP), ports, ACCEPT]);
    }
}

/// Sends nothing to the gate.
pub(super) fn flush_gate(batch: &mut Batch<'_>) {
    batch.flush_chain(TO_GATE).flush_chain(INTO_GATE);
}

/// Sends connections to the gate, and lets in what was sent there.
pub(super) fn add_gate(batch: &mut Batch<'_>, gateway: Ipv4Addr, gate: GatePort) {
    let port = gate.port;
    let (four, six) = (gateway.octets(), six::address_of(gateway));
    let six_octets = six.octets();
    let four = (Family::Four, IpAddr::V4(gateway), 16, four.as_slice());
    let six = gate.six.then_some((Family::Six, IpAddr::V6(six), 24, six_octets.as_slice()));
    for (family, address, offset, value) in [four].into_iter().chain(six) {
        let here = Expression::Payload { base: Header::Network, offset, value };
        let gate = Expression::Redirect { address, port };
        // What is for the gateway itself, questions about names above all, is not turned round.
        batch
            .add_rule(TO_GATE, &[of(family), here, ACCEPT])
            .add_rule(TO_GATE, &[Expression::InputIn(PROXIED), of(family), protocol(TCP), gate]);
        for looked_at in LOOKED_AT {
            batch.add_rule(
                TO_GATE,
                &[
                    Expression::InputIn(GATED),
                    of(family),
                    protocol(TCP),
                    Expression::Ports((looked_at, looked_at)),
                    gate,
                ],
            );
        }
        batch.add_rule(
            INTO_GATE,
            &[
                of(family),
                here,
                protocol(TCP),
                Expression::Ports((port, port)),
                // Whoever comes by itself has no destination that could be decided about.
                Expression::Redirected,
                ACCEPT,
            ],
        );
    }
}
