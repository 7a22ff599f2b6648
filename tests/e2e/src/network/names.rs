//! Rules about names, and the lies that are told about them.

use serde_json::json;
use warren_test_internet::{METADATA, PRIVATE, site};

use crate::harness::{in_world, needs, wait_at_most, wait_until};

/// Answers are good for half a minute at least, for programs are slow.
const ANSWERS_LIVE: std::time::Duration = std::time::Duration::from_secs(75);

#[test]
fn a_name_that_is_allowed_is_reached_by_everything_and_no_other_is() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["one.example"]);
        sandbox.expect(&[
            ("tcp one.example 9003", true),
            ("udp one.example 7", true),
            ("icmp one.example", true),
            ("web one.example 80 one.example", true),
            ("web one.example 8080 one.example", true),
            ("websocket one.example 80", true),
            ("websocket one.example 8080", true),
            ("tls one.example one.example one.example", true),
            ("name two.example", false),
            ("tcp two.example 9003", false),
            ("tcp 203.0.113.2 9003", false),
            ("name below.one.example", false),
        ]);
        // Nobody outside has heard of what was not allowed.
        let asked = world.internet.zone().asked();
        assert!(asked.iter().all(|it| it.name.eq_ignore_ascii_case("one.example")), "{asked:?}");
    });
}

#[test]
fn a_star_stands_for_every_name_below_and_not_for_the_name_itself() {
    needs!("python3");
    in_world(|world| {
        world.internet.zone().set("wild.example", &[site(6).into()]);
        world.internet.zone().set("deep.a.wild.example", &[site(7).into()]);
        world.internet.zone().set("notwild.example", &[site(8).into()]);
        let sandbox = world.allowing(&["*.wild.example"]);
        sandbox.expect(&[
            ("tcp a.wild.example 9003", true),
            ("tls b.wild.example b.wild.example b.wild.example", true),
            ("tcp deep.a.wild.example 9003", true),
            ("tcp A.Wild.Example 9003", true),
            ("tcp wild.example 9003", false),
            ("tcp notwild.example 9003", false),
        ]);
    });
}

#[test]
fn a_name_that_is_denied_is_not_reached_and_the_rest_is() {
    needs!("python3");
    in_world(|world| {
        let rules = json!({"otherwise": "allow", "rules": [
            {"action": "deny", "to": "two.example"},
            {"action": "deny", "to": "*.wild.example"},
        ]});
        let sandbox = world.create(&rules);
        sandbox.expect(&[
            ("tcp one.example 9003", true),
            ("web one.example 80 one.example", true),
            ("name two.example", false),
            ("name a.wild.example", false),
            // Who knows the address still has to say the name.
            ("web 203.0.113.2 80 two.example", false),
            ("tls 203.0.113.2 two.example two.example", false),
        ]);
    });
}

#[test]
fn a_port_and_a_protocol_count_with_a_name_too() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["tcp://one.example:443", "udp://two.example"]);
        sandbox.expect(&[
            ("tls one.example one.example one.example", true),
            ("web one.example 80 one.example", false),
            ("tcp one.example 9003", false),
            ("udp one.example 7", false),
            ("udp two.example 7", true),
            ("tcp two.example 9003", false),
        ]);
    });
}

#[test]
fn an_alias_is_followed_under_the_name_that_was_asked_for() {
    needs!("python3");
    in_world(|world| {
        world.internet.zone().alias("one.cdn.example", "seven.example");
        let sandbox = world.allowing(&["one.cdn.example"]);
        sandbox.expect(&[
            ("tls one.cdn.example one.cdn.example one.cdn.example", true),
            ("tcp one.cdn.example 9003", true),
            ("name seven.example", false),
            ("tls one.cdn.example seven.example seven.example", false),
        ]);
    });
}

#[test]
fn a_lie_about_the_name_gets_nowhere() {
    needs!("python3");
    in_world(|world| {
        // Two names at one address, of which one is allowed: what CDNs are made of.
        world.internet.zone().set("shared.example", &[site(1).into()]);
        let sandbox = world.allowing(&["one.example"]);
        sandbox.expect(&[
            ("tls one.example one.example one.example", true),
            // Another name at the allowed one's address.
            ("tls one.example shared.example shared.example", false),
            ("web one.example 80 shared.example", false),
            // No name at all, or an address in its place.
            ("tls one.example - one.example", false),
            ("web one.example 80 203.0.113.1", false),
            // The allowed name at another's address.
            ("tls 203.0.113.2 one.example one.example", false),
            ("web 203.0.113.2 80 one.example", false),
            ("tcp 203.0.113.2 9003", false),
        ]);
        let hosts: Vec<_> = world
            .internet
            .seen()
            .requests()
            .iter()
            .map(|request| (request.header("host").map(str::to_owned), request.local))
            .collect();
        let honest = hosts.iter().all(|(host, local)| {
            host.as_deref() == Some("one.example") && local.is_some_and(|it| it.ip() == site(1))
        });
        assert!(honest, "{hosts:?}");
    });
}

#[test]
fn an_address_alone_is_reached_only_while_its_answer_lives_or_by_a_rule() {
    needs!("python3");
    in_world(|world| {
        let sandbox = world.allowing(&["one.example", "203.0.113.5"]);
        sandbox.expect(&[
            ("tcp 203.0.113.1 9003", false),
            ("tcp 203.0.113.5 9003", true),
            ("web 203.0.113.5 80 203.0.113.5", true),
            ("tcp one.example 9003", true),
            ("tcp 203.0.113.1 9003", true),
        ]);
    });
}

#[test]
fn other_ways_to_names_are_closed() {
    needs!("python3");
    in_world(|world| {
        // Names at which everybody gets answers over HTTPS.
        for name in ["dns.google", "cloudflare-dns.com", "use-application-dns.net"] {
            world.internet.zone().set(name, &[site(8).into()]);
        }
        let sandbox = world.allowing(&["one.example", "*:53", "*:853", "udp://*:443"]);
        let gateway = sandbox.root("sed -n 's/^nameserver //p' /etc/resolv.conf");
        let own = [
            format!("ask {} one.example", gateway.trim()),
            format!("ask {} one.example tcp", gateway.trim()),
        ];
        sandbox.expect(&[
            (&own[0], true),
            (&own[1], true),
            ("ask 203.0.113.54 one.example", false),
            ("ask 203.0.113.54 one.example tcp", false),
            ("tcp 203.0.113.54 853", false),
            ("udp 203.0.113.54 853", false),
            ("udp one.example 443", false),
            ("udp 203.0.113.2 443", false),
            ("name dns.google", false),
            ("name cloudflare-dns.com", false),
            ("name use-application-dns.net", false),
            ("tls 203.0.113.8 dns.google dns.google", false),
        ]);
    });
}

#[test]
fn a_name_that_leads_near_is_not_answered_so() {
    needs!("python3");
    in_world(|world| {
        let zone = world.internet.zone();
        zone.set("metadata.example", &[METADATA.into()]);
        zone.set("mixed.example", &[PRIVATE[0].into(), site(1).into()]);
        zone.in_turn("turning.example", &[&[site(1).into()], &[PRIVATE[1].into()]], 1);
        let sandbox = world.allowing(&["*.example"]);
        sandbox.expect(&[
            ("name metadata.example", false),
            ("tcp metadata.example 9003", false),
            ("web 169.254.169.254 80 metadata.example", false),
            ("tcp turning.example 9003", true),
        ]);
        let [mixed] = sandbox.attempts(&["name mixed.example"]).try_into().expect("one");
        assert_eq!(mixed, "203.0.113.1", "what is near is left out");
        wait_until("the name has no address any more", || {
            sandbox.attempts(&["name turning.example"])[0].starts_with('!')
        });
        sandbox.expect(&[("tcp turning.example 9003", false)]);
    });
}

#[test]
fn an_address_is_closed_again_some_time_after_its_name_has_another() {
    needs!("python3");
    in_world(|world| {
        let turns: [&[_]; 2] = [&[site(1).into()], &[site(2).into()]];
        world.internet.zone().in_turn("moving.example", &turns, 1);
        let sandbox = world.allowing(&["moving.example"]);
        sandbox.expect(&[("tcp moving.example 9003", true), ("tcp 203.0.113.2 9003", false)]);
        wait_until("the name has its second address", || {
            sandbox.attempts(&["name moving.example"]) == ["203.0.113.2"]
        });
        sandbox.expect(&[("tcp moving.example 9003", true)]);
        wait_at_most(ANSWERS_LIVE, "its first is closed", || {
            sandbox.attempts(&["tcp 203.0.113.1 9003"])[0].starts_with('!')
        });
    });
}

#[test]
fn real_clients_work_where_they_may() {
    needs!("curl");
    in_world(|world| {
        let sandbox = world.allowing(&["one.example", "a.wild.example"]);
        let authority = world.trust(&sandbox);
        let curl = format!("curl -sS --max-time 20 --cacert {}", authority.display());
        for version in ["--http1.1", "--http2"] {
            let said = sandbox.root(&format!("{curl} {version} https://one.example/hello"));
            let expected = if version == "--http2" { "HTTP/2.0" } else { "HTTP/1.1" };
            assert!(said.contains(expected), "the host's own certificate is seen: {said}");
        }
        let size = sandbox.root(&format!(
            "{curl} -o /dev/null -w '%{{size_download}}' https://a.wild.example/bytes/30000000"
        ));
        assert_eq!(size, "30000000");
        let upload = format!("head -c 20000000 /dev/zero | {curl} -T - http://one.example/echo");
        assert_eq!(sandbox.root(&format!("{upload} | wc -c")).trim(), "20000000");
        // A redirection out of what is allowed ends there.
        let away = format!("{curl} -L https://one.example/to/https://two.example || echo no");
        assert!(sandbox.root(&away).ends_with("no\n"));
        let node = std::path::Path::new("/usr/bin/node").exists();
        let runs = node && sandbox.exec(&["node", "--version"])["exit_code"] == 0;
        if runs {
            let script = "fetch('https://one.example/').then(it => it.json())\
                          .then(it => console.log(it.tls_name))";
            let line = format!("NODE_EXTRA_CA_CERTS={} node -e \"{script}\"", authority.display());
            assert_eq!(sandbox.root(&line), "one.example\n");
        }
    });
}
