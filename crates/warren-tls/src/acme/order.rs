//! One order, from the first request to the certificate.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, KeyAuthorization, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use tokio_rustls::rustls::{
    self,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use super::{AcmeError, Answers, DnsProof, Proof, ledger::Ledger, sentence};
use crate::{
    choose::Certificates,
    clock::now,
    dns::{RecordError, TextRecord},
    parse::{self, Validity},
};

/// How long the authority may take to look for proofs, and to sign.
const PATIENCE: RetryPolicy = RetryPolicy::new().timeout(Duration::from_secs(180));

/// What an order is made with.
#[derive(Clone, Copy)]
pub(super) struct Work<'a> {
    pub(super) account: &'a Account,
    pub(super) proof: &'a Proof,
    pub(super) orders_per_week: u32,
    pub(super) answers: &'a Answers,
    pub(super) certificates: &'a Certificates,
    pub(super) ledger: &'a Mutex<Ledger>,
}

/// What came of it.
pub(super) struct Obtained {
    /// The key and the chain, as PEM.
    pub(super) pem: Zeroizing<String>,
    pub(super) certified: CertifiedKey,
    pub(super) validity: Validity,
}

/// Orders a certificate for these names.
pub(super) async fn obtain(work: Work<'_>, names: &[String]) -> Result<Obtained, AcmeError> {
    let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
    lock(work.ledger).order(now(), work.orders_per_week)?;
    let order = work.account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.map_err(AcmeError::authority("take an order"))?;
    let mut shown = Shown { work, tokens: Vec::new(), names: Vec::new(), records: Vec::new() };
    let obtained = async {
        prove(&mut order, &mut shown).await?;
        fetch(&mut order, names).await
    };
    let obtained = obtained.await;
    shown.take_back().await;
    obtained
}

/// Removes records that an order has left in a zone which did not come to its end.
pub(super) async fn clear(proof: &DnsProof, ledger: &Mutex<Ledger>) {
    let left = lock(ledger).records();
    for record in left {
        remove(proof, ledger, &record).await;
    }
}

/// Shows the authority that the names are ours.
async fn prove(order: &mut Order, shown: &mut Shown<'_>) -> Result<(), AcmeError> {
    let kind = match shown.work.proof {
        Proof::Http => ChallengeType::Http01,
        Proof::TlsAlpn => ChallengeType::TlsAlpn01,
        Proof::Dns(_) => ChallengeType::Dns01,
    };
    let failed = || AcmeError::authority("say how it wants a name to be proved");
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed())?;
        let name = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            _other => continue,
        };
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status => return Err(AcmeError::Unproved { name, said: format!("it is {status:?}") }),
        }
        let Some(challenge) = authorization.challenge(kind.clone()) else {
            return Err(AcmeError::NoChallenge { kind: word(shown.work.proof), name });
        };
        let answer = challenge.key_authorization();
        shown.show(&name, &challenge.token, &answer).await?;
    }
    shown.wait().await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(failed())?;
        if authorization.status != AuthorizationStatus::Pending {
            continue;
        }
        if let Some(mut challenge) = authorization.challenge(kind.clone()) {
            challenge.set_ready().await.map_err(AcmeError::authority("look for a proof"))?;
        }
    }
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready | OrderStatus::Valid) => Ok(()),
        Ok(_invalid) => Err(unproved(order, "the order became invalid".to_owned()).await),
        Err(error @ instant_acme::Error::Api(_)) => Err(unproved(order, sentence(&error)).await),
        Err(error) => Err(AcmeError::authority("find the proofs in time")(error)),
    }
}

fn word(proof: &Proof) -> &'static str {
    match proof {
        Proof::Http => "http-01",
        Proof::TlsAlpn => "tls-alpn-01",
        Proof::Dns(_) => "dns-01",
    }
}

/// What the authority says about the first name that it did not find to be ours.
async fn unproved(order: &mut Order, otherwise: String) -> AcmeError {
    let mut authorizations = order.authorizations();
    while let Some(Ok(authorization)) = authorizations.next().await {
        let said = authorization.challenges.iter().find_map(|it| it.error.as_ref());
        if let Some(said) = said {
            let name = authorization.identifier().to_string();
            return AcmeError::Unproved { name, said: sentence(said) };
        }
    }
    AcmeError::Unproved { name: "each name".to_owned(), said: otherwise }
}

/// Has a new key signed, and makes sure that the authority gave what was asked for.
async fn fetch(order: &mut Order, names: &[String]) -> Result<Obtained, AcmeError> {
    let key = KeyPair::generate().map_err(AcmeError::Make)?;
    let mut params = CertificateParams::new(names).map_err(AcmeError::Make)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(AcmeError::Make)?;
    order.finalize_csr(request.der()).await.map_err(AcmeError::authority("sign"))?;
    let chain = order.poll_certificate(&PATIENCE).await.map_err(AcmeError::authority("sign"))?;
    let secret = Zeroizing::new(key.serialize_pem());
    let pem = Zeroizing::new(format!("{}{chain}", *secret));
    let provider = rustls::crypto::ring::default_provider();
    let (certified, validity) =
        parse::certified(pem.as_bytes(), names, &provider).map_err(AcmeError::Unusable)?;
    Ok(Obtained { pem, certified, validity })
}

/// What is shown to the authority, and taken back.
struct Shown<'a> {
    work: Work<'a>,
    tokens: Vec<String>,
    names: Vec<String>,
    records: Vec<TextRecord>,
}

impl Shown<'_> {
    async fn show(
        &mut self,
        name: &str,
        token: &str,
        answer: &KeyAuthorization,
    ) -> Result<(), AcmeError> {
        match self.work.proof {
            Proof::Http => {
                self.tokens.push(token.to_owned());
                self.work.answers.insert(token, answer.as_str());
            }
            Proof::TlsAlpn => {
                let certified = challenge_certificate(name, answer)?;
                self.names.push(name.to_owned());
                self.work.certificates.challenge(name, certified);
            }
            Proof::Dns(proof) => {
                // The record may stand for one elsewhere, in a zone that less depends on.
                let name = proof.lookup.target(&format!("_acme-challenge.{name}")).await?;
                let record = TextRecord { name, value: answer.dns_value() };
                lock(self.work.ledger).adding(&record)?;
                self.records.push(record.clone());
                proof.records.add(&record).await.map_err(failed(&record))?;
            }
        }
        Ok(())
    }

    /// Waits until the world sees it.
    async fn wait(&self) -> Result<(), AcmeError> {
        let Proof::Dns(proof) = self.work.proof else { return Ok(()) };
        for record in &self.records {
            proof.lookup.wait_for(&record.name, &record.value, proof.within).await?;
        }
        Ok(())
    }

    async fn take_back(mut self) {
        let Proof::Dns(proof) = self.work.proof else { return };
        for record in std::mem::take(&mut self.records) {
            remove(proof, self.work.ledger, &record).await;
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.tokens.iter().for_each(|token| self.work.answers.remove(token));
        self.names.iter().for_each(|name| self.work.certificates.end_challenge(name));
    }
}

/// Removes a record, or leaves it in the ledger for the next time.
async fn remove(proof: &DnsProof, ledger: &Mutex<Ledger>, record: &TextRecord) {
    let removed = match proof.records.remove(record).await {
        Ok(()) => lock(ledger).removed(record),
        Err(source) => Err(failed(record)(source)),
    };
    if let Err(error) = removed {
        tracing::warn!("a record of a challenge was not removed: {}", sentence(&error));
    }
}

fn failed(record: &TextRecord) -> impl FnOnce(RecordError) -> AcmeError {
    let name = record.name.clone();
    move |source| AcmeError::Record { name, source }
}

/// The certificate that says that we know the answer.
///
/// # Source
///
/// RFC 8737, section 3.
fn challenge_certificate(name: &str, answer: &KeyAuthorization) -> Result<CertifiedKey, AcmeError> {
    let mut params = CertificateParams::new([name.to_owned()]).map_err(AcmeError::Make)?;
    let digest = answer.digest();
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest.as_ref()));
    let key = KeyPair::generate().map_err(AcmeError::Make)?;
    let certificate = params.self_signed(&key).map_err(AcmeError::Make)?;
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(secret).map_err(AcmeError::Tls)?;
    // Not by the way that compares both: it takes no certificate with a critical extension of
    // others, and this one has to have one.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// Its changes are small files on this machine: short enough to wait for.
pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
