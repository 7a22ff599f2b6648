//! What rules mean for questions and answers.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};

use super::{Question, failure};
use crate::net::policy::{Answering, Place, Policies};

/// What was asked, by whom.
pub(super) struct Asker {
    policies: Arc<Policies>,
    place: Arc<Place>,
}

impl Asker {
    /// The sandbox with this address.
    pub(super) fn at(policies: &Arc<Policies>, address: Ipv4Addr) -> Option<Self> {
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
            // Nobody could use the address.
            RecordType::AAAA => true,
            // It says other ports and addresses, and keys that hide names.
            RecordType::HTTPS | RecordType::SVCB => self.place.names_decide(),
            _ => false,
        };
        nothing.then(|| failure(ResponseCode::NoError))
    }

    /// The answer without addresses that no sandbox may reach: whoever answers with such means to
    /// have somebody else inside. What is left is noted, and opened where a rule allows the name.
    pub(super) fn take(&self, question: &Question, mut answer: Message) -> Message {
        answer.answers.retain(|record| match &record.data {
            RData::A(address) => !self.policies.is_closed(address.0),
            RData::AAAA(_) => false,
            _ => true,
        });
        let mut addresses = Vec::new();
        let mut life = u32::MAX;
        for record in &answer.answers {
            if let RData::A(address) = &record.data {
                addresses.push(address.0);
                life = life.min(record.ttl);
            }
        }
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

/// The name without the dot at its end.
fn name_of(question: &Question) -> String {
    let name = question.name.to_ascii();
    name.strip_suffix('.').unwrap_or(&name).to_owned()
}
