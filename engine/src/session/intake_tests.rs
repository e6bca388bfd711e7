use super::super::pair::{self, grant};
use super::*;

fn entry(value_bytes: usize) -> Fact {
    pair::entry(0, value_bytes)
}

const UNJUSTIFIED: Verdict = Verdict::Unjustified(Code::GrantUnknown);

/// Takes a fact in, and gives it a verdict.
fn judge(intake: &mut Intake, fact: Fact, verdict: Verdict) {
    intake.push(fact);
    let (ticket, _) = intake.poll().expect("it was pushed");
    intake.handle_verdict(ticket, verdict).expect("not too many");
}

#[test]
fn what_is_outstanding_is_what_was_taken_and_has_no_verdict() {
    let mut intake = Intake::default();
    let facts: Vec<Fact> = (0..9).map(|number| entry(100 * number)).collect();
    let bytes = |facts: &[Fact]| facts.iter().map(|fact| fact.payload_len() as u64).sum::<u64>();
    let mut open = Vec::new();
    for (count, fact) in facts.iter().enumerate() {
        intake.push(fact.clone());
        if count % 2 == 0 {
            open.push(intake.poll().expect("some wait").0);
        }
        assert_eq!((intake.outstanding(), intake.outstanding_bytes()), (count + 1, bytes(&facts[..=count])));
    }
    while let Some((ticket, _)) = intake.poll() {
        open.push(ticket);
    }
    for (count, ticket) in open.into_iter().enumerate() {
        assert!(!intake.settle(), "verdicts are missing");
        intake.handle_verdict(ticket, Verdict::Merged).expect("good facts");
        intake.handle_verdict(ticket, Verdict::Merged).expect("a second answer means nothing");
        let left = &facts[count + 1..];
        assert_eq!((intake.outstanding(), intake.outstanding_bytes()), (left.len(), bytes(left)));
    }
    assert_eq!((intake.merged, intake.waste), (9, 0));
    assert!(intake.settle());
}

#[test]
fn authority_without_a_chain_is_offered_again_as_long_as_others_were_merged() {
    let mut intake = Intake::default();
    let late = [grant(1), grant(2)];
    let weight = |facts: &[Fact]| facts.iter().map(|fact| fact.payload_len() as u64).sum::<u64>();
    late.iter().for_each(|fact| judge(&mut intake, fact.clone(), UNJUSTIFIED));
    assert_eq!((intake.waste, intake.unjustified_total), (0, 0), "they may be good yet");
    judge(&mut intake, grant(3), Verdict::Merged);
    assert!(!intake.settle(), "something was merged since");
    assert_eq!(intake.outstanding(), 2);
    let again: Vec<_> = std::iter::from_fn(|| intake.poll()).collect();
    assert_eq!(again.iter().map(|(_, fact)| fact.id()).collect::<Vec<_>>(), late.each_ref().map(Fact::id));
    for (ticket, _) in again {
        intake.handle_verdict(ticket, UNJUSTIFIED).expect("not its fault");
    }
    assert!(intake.settle(), "nothing was merged since");
    assert_eq!((intake.waste, intake.unjustified_total), (weight(&late), 2));
    assert!(intake.settle() && intake.waste == weight(&late), "each is counted once");
    judge(&mut intake, entry(7), UNJUSTIFIED);
    let lost = weight(&late) + entry(7).payload_len() as u64;
    assert_eq!((intake.waste, intake.unjustified_total), (lost, 3), "entries do not wait");
}

#[test]
fn what_waits_for_its_chain_is_kept_up_to_a_limit() {
    let mut intake = Intake::default();
    judge(&mut intake, grant(1), UNJUSTIFIED);
    judge(&mut intake, grant(2), UNJUSTIFIED);
    assert_eq!(intake.unjustified_bytes, 2 * grant(1).payload_len() as u64);
    for (before, kept) in [(MAX_WAITING_BYTES - 1, 3), (MAX_WAITING_BYTES, 3), (MAX_WAITING_BYTES + 1, 3)] {
        intake.unjustified_bytes = before;
        judge(&mut intake, grant(3), UNJUSTIFIED);
        assert_eq!(intake.unjustified.len(), kept, "{before}");
    }
    assert_eq!(intake.unjustified_total, 2, "what had no room is lost to this round");
    assert!(intake.settle());
    assert_eq!((intake.unjustified_bytes, intake.unjustified_total), (0, 5));
}

#[test]
fn a_peer_is_dropped_at_its_last_charge() {
    let mut intake = Intake::default();
    for _ in 1..MAX_CHARGES {
        judge(&mut intake, entry(1), Verdict::Refused(Code::BadSignature));
        judge(&mut intake, entry(1), Verdict::Misused(Code::ForeignCluster));
    }
    let last = intake.charge(Code::NotRoot);
    assert!(matches!(last, Err(SessionError::Misbehaved(Code::NotRoot))), "{last:?}");
}
