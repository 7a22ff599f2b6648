//! What rules mean for questions and answers.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Record, RecordType},
};

use super::{Question, failure};
use crate::net::policy::{Answering, LONGEST_SECONDS, Place, Policies};

/// What was asked, by whom.
pub(super) struct Asker {
    policies: Arc<Policies>,
    place: Arc<Place>,
}

impl Asker {
    /// The sandbox with this address.
    pub(super) fn at(policies: &Arc<Policies>, address: IpAddr) -> Option<Self> {
        let place = policies.place_at(address)?;
        Some(Self { policies: Arc::clone(policies), place })
    }

    /// The answer that rules give at once; none where somebody has to be asked.
    pub(super) fn refusal(&self, question: &Question) -> Option<Message> {
        let name = name_of(question);
        let enforced = match self.place.question(&name) {
            Answering::Yes => None,
            Answering::Told(verdict) => Some((verdict, false)),
            Answering::No(verdict) => Some((verdict, true)),
        };
        if let Some((verdict, enforced)) = enforced {
            let denial = Place::denied_question(&name, verdict, enforced);
            self.policies.denied(&self.place, denial);
            if enforced {
                return Some(failure(ResponseCode::NXDomain));
            }
        }
        let nothing = match question.record_type {
            // Nobody could use the address, and whoever tried would wait.
            RecordType::AAAA => !self.policies.outside().is_reached(),
            // It says other ports and addresses, and keys that hide names.
            RecordType::HTTPS | RecordType::SVCB => self.place.names_count(),
            _ => false,
        };
        nothing.then(|| failure(ResponseCode::NoError))
    }

    /// The answer without addresses that no sandbox may reach: whoever answers with such means to
    /// have somebody else inside. What is left is noted, and opened where a rule allows the name.
    pub(super) fn take(&self, question: &Question, mut answer: Message) -> Message {
        let six = self.policies.outside().is_reached();
        answer.answers.retain(|record| {
            address_of(record)
                .is_none_or(|it| (it.is_ipv4() || six) && !self.policies.is_closed(it))
        });
        // A program that keeps an answer for as long as it lives is not shut out before.
        for record in &mut answer.answers {
            record.ttl = record.ttl.min(LONGEST_SECONDS);
        }
        let addresses: Vec<IpAddr> = answer.answers.iter().filter_map(address_of).collect();
        let of_addresses = answer.answers.iter().filter(|record| address_of(record).is_some());
        let life = of_addresses.map(|record| record.ttl).min().unwrap_or_default();
        if addresses.is_empty() {
            return answer;
        }
        let life = Duration::from_secs(life.into());
        let name = name_of(question);
        match self.policies.answer(&self.place, &name, &addresses, life) {
            Ok(()) => answer,
            Err(error) => {
                let cause = &error as &dyn std::error::Error;
                tracing::error!(error = cause, "a sandbox is not answered: {error}");
                failure(ResponseCode::ServFail)
            }
        }
    }
}

fn address_of(record: &Record) -> Option<IpAddr> {
    record.data.ip_addr()
}

/// The name without the dot at its end.
fn name_of(question: &Question) -> String {
    let name = question.name.to_ascii();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}
