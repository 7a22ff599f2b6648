use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::spec::Network;

fn rule(action: Action, text: &str) -> Rule {
    Rule::parse(action, text).unwrap()
}

fn policy(rules: &[&str], otherwise: Action) -> Egress {
    let parsed = rules.iter().map(|text| match text.strip_prefix('!') {
        Some(text) => rule(Action::Deny, text),
        None => rule(Action::Allow, text),
    });
    Egress { rules: parsed.collect(), otherwise, ..Egress::default() }
}

fn tcp<'a>(name: Option<&'a str>, address: &str, port: u16) -> Attempt<'a> {
    let address = Some(address.parse().unwrap());
    Attempt { name, proven: name.is_some(), address, protocol: Protocol::Tcp, port: Some(port) }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let policy = policy(&["!192.0.2.7", "192.0.2.0/24:80,443", "*:53"], Action::Deny);
    let decide = |address: &str, port| {
        let verdict = policy.decide(&tcp(None, address, port));
        (verdict.allowed, verdict.rule)
    };
    assert_eq!(decide("192.0.2.7", 80), (false, Some(0)));
    assert_eq!(decide("192.0.2.8", 80), (true, Some(1)));
    assert_eq!(decide("192.0.2.8", 81), (false, None));
    assert_eq!(decide("203.0.113.1", 53), (true, Some(2)));
}

#[test]
fn a_name_counts_where_it_is_proven_and_forbids_in_any_case() {
    let policy = policy(&["!bad.example", "*.example"], Action::Deny);
    let mut attempt = tcp(Some("good.example"), "192.0.2.1", 443);
    assert!(policy.decide(&attempt).allowed);
    attempt.proven = false;
    assert!(!policy.decide(&attempt).allowed, "whoever lies about the name reaches nothing");
    let mut bad = tcp(Some("bad.example"), "192.0.2.1", 443);
    for proven in [true, false] {
        bad.proven = proven;
        assert_eq!(policy.decide(&bad), Verdict { allowed: false, rule: Some(0) });
    }
    let apex = tcp(Some("example"), "192.0.2.1", 443);
    assert!(!policy.decide(&apex).allowed, "`*.example` is what is below it");
}

#[test]
fn only_names_that_lead_somewhere_are_looked_up() {
    let strict = policy(&["!evil.example", "tcp://*.example:443", "192.0.2.0/24"], Action::Deny);
    assert!(strict.may_ask("a.example").allowed);
    assert!(!strict.may_ask("evil.example").allowed);
    assert!(!strict.may_ask("other.test").allowed);
    let lax = policy(&["!evil.example", "!tcp://ads.example:80"], Action::Allow);
    assert!(!lax.may_ask("evil.example").allowed);
    assert!(lax.may_ask("ads.example").allowed && lax.may_ask("other.test").allowed);
    assert!(!policy(&["!*"], Action::Allow).may_ask("a.example").allowed);
    assert!(policy(&["*:443"], Action::Deny).may_ask("a.example").allowed);
}

#[test]
fn rules_are_read_strictly_and_say_what_was_expected() {
    for good in [
        "*",
        "*:443",
        "tcp://*",
        "udp://1.1.1.1:53",
        "icmp://192.0.2.0/24",
        "a.example",
        "*.a.example:80,443,8000-8999",
        "2001:db8::1",
        "2001:db8::/32",
        "[2001:db8::1]:443",
    ] {
        assert_eq!(rule(Action::Allow, good).to_string(), good);
    }
    assert_eq!(rule(Action::Deny, "TCP.Example.:9,8,7").to_string(), "tcp.example:7-9");
    for bad in [
        "",
        "http://a.example",
        "a.example:0",
        "a.example:1-",
        "a.example:9-1",
        "a.example:65536",
        "1.2.3.400",
        "1.2.3.4/33",
        "1.2.3.4/8",
        "::ffff:1.2.3.4",
        "a..b",
        "*.",
        "a.*.b",
        "a b",
        "icmp://*:1",
        "*.1",
        "a.example:",
        "[::1",
        "10.0.0.0/08",
        "ä.example",
        "*.*",
    ] {
        assert!(Rule::parse(Action::Allow, bad).is_err(), "{bad}");
    }
    let error = Rule::parse(Action::Allow, "https://a.example/x").unwrap_err();
    assert!(error.to_string().contains("not URLs"), "{error}");
    let error = Rule::parse(Action::Allow, "10.1.2.3/8").unwrap_err();
    assert!(error.to_string().ends_with("did you mean 10.0.0.0/8?"), "{error}");
}

#[test]
fn what_is_not_public_is_reserved() {
    for address in [
        "10.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "172.31.255.255",
        "192.168.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "100.127.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:8.8.8.8",
        "64:ff9b::a00:1",
        "2002:a00:1::",
        "2001:0:1::",
    ] {
        assert!(reserved(address.parse().unwrap()).is_some(), "{address}");
    }
    for address in ["8.8.8.8", "172.32.0.1", "203.0.113.1", "2606:4700::1", "2001:db8::1"] {
        assert!(reserved(address.parse().unwrap()).is_none(), "{address}");
    }
}

#[test]
fn an_explanation_names_what_decides() {
    let rules = Network::Rules(policy(&["*.example:443"], Action::Deny).into());
    let ask = |network: &Network, host: &str, port| {
        let explained = network.explain(&Question::about(host, Protocol::Tcp, port).unwrap());
        (explained.allowed, explained.reason)
    };
    assert_eq!(ask(&rules, "a.example", Some(443)), (true, Reason::Rule(0)));
    assert_eq!(ask(&rules, "a.example", Some(80)), (false, Reason::Otherwise));
    assert_eq!(ask(&rules, "b.test", Some(443)), (false, Reason::NotAnswered(None)));
    assert_eq!(ask(&rules, "8.8.8.8", Some(443)), (false, Reason::Otherwise));
    assert!(matches!(ask(&rules, "[fe80::1]", None), (false, Reason::Reserved(_))));
    assert!(matches!(ask(&Network::Open, "10.0.0.1", None), (false, Reason::Reserved(_))));
    assert_eq!(ask(&Network::Open, "8.8.8.8", None), (true, Reason::Open));
    assert_eq!(ask(&Network::None, "8.8.8.8", None), (false, Reason::NoNetwork));
    let dry = Egress { mode: Mode::DryRun, ..Egress::default() };
    let said = ask(&Network::Rules(dry.into()), "8.8.8.8", None);
    assert_eq!(said, (true, Reason::NotEnforced(Box::new(Reason::Otherwise))));
    assert!(Question::about("a b", Protocol::Any, None).is_err());
}

#[test]
fn ways_around_names_are_closed_whatever_the_rules_allow() {
    let ask = |rules: &[&str], otherwise, host: &str, protocol, port| {
        let rules = Network::Rules(policy(rules, otherwise).into());
        let explained = rules.explain(&Question::about(host, protocol, Some(port)).unwrap());
        (!explained.allowed).then_some(explained.reason)
    };
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    let closed = |closure| Some(Reason::Closed(closure));
    let named = ["api.example", "9.9.9.9:53,853", "*.google"];
    let strict = |host, protocol, port| ask(&named, Action::Deny, host, protocol, port);
    assert_eq!(strict("9.9.9.9", udp, 53), closed(Closure::Resolver));
    assert_eq!(strict("9.9.9.9", tcp, 853), closed(Closure::Resolver));
    assert_eq!(strict("api.example", udp, 443), closed(Closure::Http3));
    assert_eq!(strict("api.example", tcp, 443), None);
    assert_eq!(strict("dns.google", tcp, 443), closed(Closure::ResolverName));
    assert_eq!(ask(&["dns.google"], Action::Deny, "dns.google", tcp, 443), None);
    assert_eq!(ask(&["9.9.9.9:53"], Action::Deny, "9.9.9.9", udp, 53), None, "no names decide");

    let lax = |rules: &[&str], port| ask(rules, Action::Allow, "192.0.2.1", tcp, port);
    assert_eq!(lax(&["!bad.example"], 443), closed(Closure::NoName));
    assert_eq!(lax(&["!bad.example"], 80), closed(Closure::NoName));
    assert_eq!(lax(&["!bad.example"], 22), None, "no name is looked at there");
    assert_eq!(lax(&["!bad.example:80"], 443), None, "it could be reached by its name");
    assert_eq!(lax(&["!bad.example", "192.0.2.0/24"], 443), None);
    assert_eq!(lax(&["!bad.example", "*"], 443), None);
}

#[test]
fn what_is_enforced_is_what_is_explained() {
    let lax = policy(&["!bad.example"], Action::Allow);
    let hidden = tcp(None, "192.0.2.1", 443);
    assert_eq!(lax.decide(&hidden), Verdict { allowed: true, rule: None });
    assert_eq!(lax.enforced(&hidden), Verdict { allowed: false, rule: None });
    let good = tcp(Some("good.example"), "192.0.2.1", 443);
    assert!(lax.enforced(&good).allowed);
    let resolver = Attempt { proven: false, ..tcp(Some("dns.google"), "8.8.8.8", 443) };
    assert!(!lax.enforced(&resolver).allowed);
}

#[test]
fn bounds_are_checked() {
    let many = Egress { rules: vec![rule(Action::Allow, "*"); 257], ..Egress::default() };
    assert!(many.check().is_err());
    let slow = Bandwidth { up: Some(1), down: None };
    assert!(Egress { bandwidth: slow, ..Egress::default() }.check().is_err());
    assert_eq!(Egress::default().check(), Ok(()));
    for bad in ["", "x", "mode wild", "allow", "up x", "otherwise maybe"] {
        assert!(format!("{bad}\n").parse::<Egress>().is_err(), "{bad}");
    }
}

fn any_network() -> impl Strategy<Value = IpNetwork> {
    let four = (any::<u32>(), 0..=32_u8).prop_map(|(bits, prefix)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        format!("{}/{prefix}", Ipv4Addr::from(bits & mask))
    });
    let six = (any::<u128>(), 0..=128_u8).prop_map(|(bits, prefix)| {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        format!("{}/{prefix}", Ipv6Addr::from((bits | 1 << 127) & mask))
    });
    prop_oneof![four, six].prop_filter_map("not mapped", |text| text.parse().ok())
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let target = prop_oneof![
        Just("*".to_owned()),
        any_network().prop_map(|network| match network.address() {
            IpAddr::V4(_) => network.to_string(),
            IpAddr::V6(_) => format!("[{network}]"),
        }),
        r"(\*\.)?[a-z0-9_-]{1,12}(\.[a-z0-9-]{1,8}){0,3}\.[a-z]{2,5}",
    ];
    let ports = prop_oneof![
        Just(String::new()),
        vec((1..=u16::MAX, 0..50_u16), 1..5).prop_map(|ranges| {
            let range =
                |(first, more): (u16, u16)| format!("{first}-{}", first.saturating_add(more));
            format!(":{}", ranges.into_iter().map(range).collect::<Vec<_>>().join(","))
        }),
    ];
    let protocol = prop_oneof![Just(""), Just("tcp://"), Just("udp://")];
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    (action, protocol, target, ports).prop_map(|(action, protocol, target, ports)| {
        Rule::parse(action, &format!("{protocol}{target}{ports}")).unwrap()
    })
}

fn any_policy() -> impl Strategy<Value = Egress> {
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::DryRun), Just(Mode::Learn)];
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    let speed = proptest::option::of(LEAST_BANDWIDTH..=MOST_BANDWIDTH);
    (mode, vec(any_rule(), 0..12), action, speed).prop_map(|(mode, rules, otherwise, up)| Egress {
        mode,
        rules,
        otherwise,
        bandwidth: Bandwidth { up, down: None },
    })
}

proptest! {
    #[test]
    fn what_is_stored_is_read_back(policy in any_policy()) {
        prop_assert_eq!(policy.to_string().parse::<Egress>(), Ok(policy));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,60}") {
        let read = Rule::parse(Action::Allow, &text);
        if let Ok(rule) = read {
            prop_assert_eq!(Rule::parse(Action::Allow, &rule.to_string()), Ok(rule));
        }
        let _refused = text.parse::<Egress>().is_err();
    }

    #[test]
    fn the_rule_that_decides_is_the_first_that_would_alone(
        policy in any_policy(), address in any::<u32>(), port in any::<u16>(), named in any::<bool>(),
    ) {
        let name = named.then_some("a.example");
        let address = Ipv4Addr::from(address).to_string();
        let attempt = tcp(name, &address, port);
        let verdict = policy.decide(&attempt);
        let alone = |rule: &Rule| {
            let single = Egress { rules: vec![rule.clone()], ..Egress::default() };
            single.decide(&attempt).rule.is_some()
        };
        prop_assert_eq!(verdict.rule, policy.rules.iter().position(alone));
        let said = verdict.rule.map_or(policy.otherwise, |place| policy.rules[place].action);
        prop_assert_eq!(verdict.allowed, said == Action::Allow);
    }

    #[test]
    fn a_network_contains_its_ends_alone(network in any_network()) {
        prop_assert!(network.contains(network.address()) && network.contains(network.last()));
        prop_assert_eq!(network.to_string().parse::<IpNetwork>(), Ok(network));
    }
}
