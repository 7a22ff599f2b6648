//! `warren net`

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use warren_api::network::{
    ExplainNetwork, LearnedNetwork, Network, NetworkRules, PacketKind, SandboxNetwork, Traffic,
};

use super::{
    Context,
    reach::{self, ReachArgs},
};
use crate::{config::Size, error::CliError};

/// Show and change what sandboxes may reach
#[derive(clap::Args, Debug)]
pub(crate) struct NetArgs {
    #[command(subcommand)]
    command: NetCommand,
}

#[derive(Subcommand, Debug)]
enum NetCommand {
    /// Show what a sandbox may reach, and what went over its network
    Show {
        /// Its id or name
        sandbox: String,
    },
    /// Change what a sandbox may reach, while it runs
    ///
    /// Connections that are still allowed go on, others are cut.
    Set {
        /// Its id or name
        sandbox: String,
        #[command(flatten, next_help_heading = "Network")]
        reach: Box<ReachArgs>,
    },
    /// Say why a sandbox reaches something, or does not
    ///
    /// Nothing is sent. The exit status is 0 where it does, and 1 where it does not.
    Explain {
        /// Its id or name
        sandbox: String,
        /// A name or an address, with a port where that matters
        #[arg(value_name = "HOST[:PORT]")]
        to: String,
        /// The kind of packet
        #[arg(long, value_name = "tcp|udp|icmp", default_value = "tcp")]
        protocol: ProtocolArg,
    },
    /// Print rules that allow what a sandbox reached, for `--rules`
    ///
    /// It must run with `--rules-mode learn`, or with `dry-run`.
    Learn {
        /// Its id or name
        sandbox: String,
    },
}

/// [`PacketKind`], as a flag.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArg {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

pub(crate) async fn net(cx: &Context<'_>, args: NetArgs) -> Result<ExitCode, CliError> {
    match args.command {
        NetCommand::Show { sandbox } => show(cx, &cx.client.get_network(&sandbox).await?)?,
        NetCommand::Set { sandbox, reach } => {
            let network = reach.network()?.ok_or_else(|| {
                CliError::usage("nothing to change: expected --network, --allow, --deny or --rules")
            })?;
            let set = cx.client.set_network(&sandbox, network).await?;
            match cx.output.json {
                true => cx.output.value(&set)?,
                false => cx.output.talk(&format!("{sandbox}: {}", reach::summary(&set.network))),
            }
        }
        NetCommand::Explain { sandbox, to, protocol } => {
            return explain(cx, &sandbox, &to, protocol).await;
        }
        NetCommand::Learn { sandbox } => {
            learned(cx, &cx.client.learned_network(&sandbox).await?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(cx: &Context<'_>, shown: &SandboxNetwork) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(shown);
    }
    cx.output.line(&format!("network   {}", reach::summary(&shown.network)))?;
    if let Network::Rules(rules) = &shown.network {
        show_rules(cx, rules)?;
    }
    shown.traffic.as_ref().map_or(Ok(()), |traffic| show_traffic(cx, traffic))
}

fn show_rules(cx: &Context<'_>, rules: &NetworkRules) -> Result<(), CliError> {
    for (place, rule) in rules.rules.iter().enumerate() {
        cx.output.line(&format!("rule {place:<4} {} {}", reach::word(rule.action), rule.to))?;
    }
    let rates = [("upload", rules.up_bytes_per_second), ("download", rules.down_bytes_per_second)];
    for (name, rate) in rates {
        if let Some(rate) = rate {
            cx.output.line(&format!("{name:<9} {}/s at most", Size(rate)))?;
        }
    }
    Ok(())
}

fn show_traffic(cx: &Context<'_>, traffic: &Traffic) -> Result<(), CliError> {
    let Traffic { sent_bytes, received_bytes, sent_packets, received_packets, .. } = traffic;
    cx.output.line(&format!("sent      {sent_bytes} bytes in {sent_packets} packets"))?;
    cx.output.line(&format!("received  {received_bytes} bytes in {received_packets} packets"))?;
    let Traffic { connections, denied, .. } = traffic;
    cx.output.line(&format!("made      {connections} connections, {denied} more were denied"))
}

async fn explain(
    cx: &Context<'_>,
    sandbox: &str,
    to: &str,
    protocol: ProtocolArg,
) -> Result<ExitCode, CliError> {
    let (host, port) = host_and_port(to)?;
    let protocol = match protocol {
        ProtocolArg::Tcp => PacketKind::Tcp,
        ProtocolArg::Udp => PacketKind::Udp,
        ProtocolArg::Icmp => PacketKind::Icmp,
    };
    let question = ExplainNetwork { host, port, protocol: Some(protocol) };
    let explained = cx.client.explain_network(sandbox, &question).await?;
    if cx.output.json {
        cx.output.value(&explained)?;
    } else {
        let word = if explained.allowed { "allowed" } else { "denied" };
        cx.output.line(&format!("{word}: {}", explained.message))?;
    }
    Ok(if explained.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `HOST[:PORT]` taken apart; an address of IPv6 with a port is in brackets.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), CliError> {
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        None => match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let unclear = || CliError::usage(format!("`{text}`: expected HOST or HOST:PORT"));
    let port = port.map(|port| port.parse().map_err(|_nan| unclear())).transpose()?;
    Ok((host.to_owned(), port))
}

fn learned(cx: &Context<'_>, learned: &LearnedNetwork) -> Result<(), CliError> {
    if cx.output.json {
        return cx.output.value(learned);
    }
    for rule in &learned.rules {
        cx.output.line(&format!("{} {}", reach::word(rule.action), rule.to))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        let split = |text| host_and_port(text).ok();
        assert_eq!(split("a.example"), Some(("a.example".to_owned(), None)));
        assert_eq!(split("a.example:443"), Some(("a.example".to_owned(), Some(443))));
        assert_eq!(split("2001:db8::1"), Some(("2001:db8::1".to_owned(), None)));
        assert_eq!(split("[2001:db8::1]:443"), Some(("2001:db8::1".to_owned(), Some(443))));
        assert_eq!(split("a.example:http"), None);
    }
}
