//! Answers that are still good.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use tokio::time::Instant;

/// The most answers that are kept.
const ENTRIES: usize = 2048;
/// The largest answer that is kept, in records: some 4 KiB.
const RECORDS: usize = 64;
/// The longest an answer is kept, whatever its records say.
const LONGEST: Duration = Duration::from_secs(60);

/// What is asked; all that the answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    /// In lower case.
    pub(super) name: Name,
    pub(super) record_type: RecordType,
    /// Signatures are wanted.
    pub(super) dnssec: bool,
    /// Answers that fail validation are wanted too.
    pub(super) unchecked: bool,
}

/// Answers by question.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: Mutex<HashMap<Question, Entry>>,
}

#[derive(Debug)]
struct Entry {
    answer: Message,
    stored: Instant,
    good_for: Duration,
}

impl Cache {
    /// The answer to this question, its records' lives shortened by the time it was kept.
    pub(super) fn get(&self, question: &Question) -> Option<Message> {
        let entries = self.entries();
        let entry = entries.get(question)?;
        let age = entry.stored.elapsed();
        if age >= entry.good_for {
            return None;
        }
        let mut answer = entry.answer.clone();
        drop(entries);
        let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        for record in records_mut(&mut answer) {
            record.ttl = record.ttl.saturating_sub(seconds);
        }
        Some(answer)
    }

    /// Keeps an answer as long as its records allow.
    pub(super) fn put(&self, question: &Question, answer: &Message) {
        let Some(good_for) = lifetime(answer) else { return };
        let mut entries = self.entries();
        if entries.len() >= ENTRIES {
            entries.retain(|_, entry| entry.stored.elapsed() < entry.good_for);
        }
        if entries.len() >= ENTRIES {
            entries.clear(); // rarer than a minute, and simpler than an order of use
        }
        let entry = Entry { answer: answer.clone(), stored: Instant::now(), good_for };
        entries.insert(question.clone(), entry);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Question, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an answer may be kept: as long as its shortest-lived record, or for an answer without
/// records as long as its zone says.
///
/// # Source
///
/// RFC 2308, section 5, for answers without records.
fn lifetime(answer: &Message) -> Option<Duration> {
    let code = answer.metadata.response_code;
    let keepable = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    if !keepable || answer.metadata.truncation || answer.all_sections().count() > RECORDS {
        return None;
    }
    let positive = answer.answers.iter().map(|record| record.ttl).min();
    let negative = answer.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(zone) => Some(record.ttl.min(zone.minimum)),
        _ => None,
    });
    let seconds = positive.into_iter().chain(negative).min()?;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(LONGEST))
}

fn records_mut(answer: &mut Message) -> impl Iterator<Item = &mut Record> {
    let Message { answers, authorities, additionals, .. } = answer;
    answers.iter_mut().chain(authorities).chain(additionals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::OpCode,
        rr::rdata::{A, SOA},
    };

    fn question(name: &str) -> Question {
        Question {
            name: Name::from_ascii(name).unwrap(),
            record_type: RecordType::A,
            dnssec: false,
            unchecked: false,
        }
    }

    fn answer(ttl: u32) -> Message {
        let mut answer = Message::response(1, OpCode::Query);
        let address = RData::A(A::new(192, 0, 2, 1));
        answer.add_answer(Record::from_rdata(Name::root(), ttl, address));
        answer
    }

    fn negative(ttl: u32, minimum: u32) -> Message {
        let mut answer = Message::error_msg(1, OpCode::Query, ResponseCode::NXDomain);
        let zone = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        answer.add_authority(Record::from_rdata(Name::root(), ttl, RData::SOA(zone)));
        answer
    }

    #[test]
    fn answers_are_kept_as_long_as_their_records_allow() {
        assert_eq!(lifetime(&answer(5)), Some(Duration::from_secs(5)));
        assert_eq!(lifetime(&answer(86_400)), Some(LONGEST));
        assert_eq!(lifetime(&answer(0)), None);
        assert_eq!(lifetime(&negative(30, 20)), Some(Duration::from_secs(20)));
        assert_eq!(lifetime(&Message::response(1, OpCode::Query)), None);
        let failed = Message::error_msg(1, OpCode::Query, ResponseCode::ServFail);
        assert_eq!(lifetime(&failed), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_kept_answer_ages_and_goes() {
        let cache = Cache::default();
        cache.put(&question("a.example."), &answer(30));
        assert_eq!(cache.get(&question("b.example.")), None);
        tokio::time::advance(Duration::from_secs(10)).await;
        let kept = cache.get(&question("a.example.")).unwrap();
        assert_eq!(kept.answers[0].ttl, 20);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(cache.get(&question("a.example.")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_does_not_grow_without_end() {
        let cache = Cache::default();
        for number in 0..3 * ENTRIES {
            cache.put(&question(&format!("n{number}.example.")), &answer(30));
        }
        assert!(cache.entries().len() <= ENTRIES);
    }
}
