use super::*;
use crate::{
    exchange::{ConnectionKey, ShardId},
    frame::PreparedFrame,
};

enum Step {
    Join(u32),
    Leave(u32),
    Message(u64, u64),
    Receipt(u32, u32),
    Undeliverable(u32, u32),
    Ended(u64, u32),
    Refused(u64),
    Wait(u64),
    Lost,
    Open,
    Cancelled,
}

use Step::{
    Cancelled, Ended, Join, Leave, Lost, Message as Msg, Open, Receipt, Refused, Undeliverable,
    Wait,
};

fn client(slot: u32) -> ClientId {
    ClientId {
        shard: ShardId(0),
        key: ConnectionKey {
            slot,
            generation: 0,
        },
    }
}

fn message(sequence: u64, deliveries: u64) -> super::Message {
    super::Message {
        sequence,
        deliveries,
        reply: format!("{sequence}").into(),
        subject: "jobs".into(),
        headers: None,
        frame: PreparedFrame::new(sequence.to_string().as_bytes()),
    }
}

fn word(output: Output) -> String {
    match output {
        Output::Deliver {
            client,
            counter,
            frame,
            ..
        } => {
            let text = std::str::from_utf8(frame.payload()).unwrap();
            format!("{text}→{}#{counter}", client.key.slot)
        }
        Output::Ack(reply) => format!("ack {reply}"),
        Output::Nak(reply) => format!("nak {reply}"),
        Output::Dead { message, reason } => {
            format!("dead {} {}", message.sequence, reason.reason())
        }
        Output::Pull { id, batch } => format!("pull#{id} {batch}"),
        Output::CancelPulls => "cancel".to_owned(),
    }
}

/// Takes the steps with a credit of 4, an `ackWait` of 30 s and 3 deliveries, and compares what comes
/// out after each.
fn check(steps: &[(Step, &str)]) {
    let limits = QueueLimits {
        credit: 4,
        ack_wait: Duration::from_secs(30),
        max_deliver: 3,
    };
    let mut dispatcher = Dispatcher::new(limits);
    dispatcher.handle_open(PULL_BATCH_MAX);
    let mut now = Instant::now();
    for (at, (step, expected)) in steps.iter().enumerate() {
        match *step {
            Join(slot) => dispatcher.handle_join(client(slot), now),
            Leave(slot) => dispatcher.handle_leave(client(slot), now),
            Msg(sequence, deliveries) => {
                dispatcher.handle_message(message(sequence, deliveries), now);
            }
            Receipt(slot, counter) => dispatcher.handle_receipt(client(slot), counter, now),
            Undeliverable(slot, counter) => {
                dispatcher.handle_undeliverable(client(slot), counter, now);
            }
            Ended(id, left) => dispatcher.handle_pull_ended(id, Some(left)),
            Refused(id) => dispatcher.handle_pull_refused(id, now),
            Wait(ms) => {
                now += Duration::from_millis(ms);
                dispatcher.handle_timeout(now);
            }
            Lost => dispatcher.handle_lost(),
            Open => dispatcher.handle_open(PULL_BATCH_MAX),
            Cancelled => dispatcher.handle_cancelled(),
        }
        let mut outputs = Vec::new();
        while let Some(output) = dispatcher.poll_output(now) {
            outputs.push(word(output));
        }
        assert_eq!(outputs.join(", "), *expected, "step {at}");
    }
}

#[test]
fn a_receipt_acknowledges_all_up_to_it_and_frees_credit() {
    check(&[
        (Msg(9, 1), "nak 9"),
        (Join(1), "pull#0 4"),
        (Join(1), ""),
        (Msg(1, 1), "1→1#1"),
        (Msg(2, 1), "2→1#2"),
        (Msg(3, 1), "3→1#3"),
        // Never sent, of a stranger, and nothing new.
        (Receipt(1, 4), ""),
        (Receipt(1, u32::MAX), ""),
        (Receipt(7, 1), ""),
        (Receipt(1, 0), ""),
        (Receipt(1, 2), "ack 1, ack 2, pull#1 2"),
        (Receipt(1, 2), ""),
        (Receipt(1, 1), ""),
        (Ended(0, 1), ""),
        (Receipt(1, 3), "ack 3, pull#2 2"),
    ]);
}

#[test]
fn clients_take_turns() {
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Join(3), ""),
        (Msg(1, 1), "1→1#1"),
        (Msg(2, 1), "2→2#1"),
        (Msg(3, 1), "3→3#1"),
        (Msg(4, 1), "4→1#2, pull#2 4"),
        (Msg(5, 1), "5→2#2"),
        (Receipt(3, 1), "ack 3"),
        (Msg(6, 1), "6→3#2"),
    ]);
}

#[test]
fn pulls_are_cancelled_before_the_last_clients_messages_are_given_back() {
    check(&[
        (Join(1), "pull#0 4"),
        (Msg(1, 1), "1→1#1"),
        (Msg(2, 1), "2→1#2"),
        (Leave(1), ""),
        // What is on its way.
        (Msg(3, 1), ""),
        (Wait(20), "cancel"),
        (Msg(4, 1), ""),
        (Cancelled, "nak 1, nak 2, nak 3, nak 4"),
    ]);
    // Nothing was asked for any more: at once.
    check(&[
        (Join(1), "pull#0 4"),
        (Msg(1, 1), "1→1#1"),
        (Ended(0, 3), "pull#1 3"),
        (Lost, ""),
        (Leave(1), "nak 1"),
        (Open, ""),
    ]);
    // Somebody else is there.
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Msg(1, 1), "1→1#1"),
        (Leave(1), "nak 1"),
    ]);
    // Somebody comes in between.
    check(&[
        (Join(1), "pull#0 4"),
        (Msg(1, 1), "1→1#1"),
        (Leave(1), ""),
        (Join(2), "nak 1"),
        (Msg(2, 1), "2→2#1"),
        (Leave(2), ""),
        (Wait(20), "cancel"),
        (Join(3), ""),
        (Msg(3, 1), "3→3#1"),
        (Cancelled, "nak 2, pull#1 3"),
    ]);
}

#[test]
fn what_has_failed_travels_alone() {
    check(&[
        (Join(1), "pull#0 4"),
        (Msg(1, 2), "1→1#1"),
        // It takes the whole client.
        (Msg(2, 1), ""),
        (Msg(3, 2), ""),
        (Receipt(1, 1), "ack 1, 3→1#2"),
        (Receipt(1, 2), "ack 3, 2→1#3, pull#1 2"),
    ]);
    // A client with something else is emptied for it, while another goes on.
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Msg(1, 1), "1→1#1"),
        (Msg(2, 1), "2→2#1"),
        (Msg(3, 2), ""),
        (Msg(4, 1), "4→2#2"),
        (Receipt(1, 1), "ack 1, 3→1#2"),
        (Msg(5, 1), "5→2#3"),
        (Receipt(1, 2), "ack 3"),
        (Msg(6, 1), "6→1#3, pull#2 2"),
    ]);
}

#[test]
fn a_message_is_given_up_after_its_last_attempt() {
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Msg(1, 3), "1→1#1"),
        (Leave(1), "dead 1 ClientGone"),
        (Msg(2, 4), "dead 2 DeliveriesExhausted"),
        (Msg(3, 1), "3→2#1"),
        (Msg(4, 1), "4→2#2"),
        (Undeliverable(2, 1), "dead 3 Undeliverable"),
        (Undeliverable(2, 1), ""),
        (Receipt(2, 2), "ack 4"),
    ]);
}

#[test]
fn what_no_client_was_given_has_not_failed() {
    check(&[
        // Three times it comes, and nobody is there.
        (Msg(1, 1), "nak 1"),
        (Msg(1, 2), "nak 1"),
        (Msg(1, 3), "nak 1"),
        (Join(1), "pull#0 4"),
        (Msg(2, 1), "2→1#1"),
        (Msg(1, 4), "1→1#2"),
    ]);
}

#[test]
fn what_the_server_has_taken_back_is_not_given_back_again() {
    // The same gateway gets it again, for another client.
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Msg(1, 1), "1→1#1"),
        (Msg(1, 2), "1→2#1"),
        (Leave(1), ""),
        (Receipt(2, 1), "ack 1"),
    ]);
    // Another gateway got it: the clock tells.
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Msg(1, 1), "1→1#1"),
        (Wait(30_000), "pull#2 7"),
        (Leave(1), ""),
    ]);
    // A stalled client is not given it a second time, and a late receipt still counts.
    check(&[
        (Join(1), "pull#0 4"),
        (Msg(1, 1), "1→1#1"),
        (Msg(1, 2), ""),
        (Receipt(1, 1), "ack 1, 1→1#2"),
    ]);
}

#[test]
fn what_comes_beyond_the_credit_waits_for_it_and_not_for_ever() {
    check(&[
        (Join(1), "pull#0 4"),
        (Join(2), "pull#1 4"),
        (Leave(2), ""),
        (Msg(1, 1), "1→1#1"),
        (Msg(2, 1), "2→1#2"),
        (Msg(3, 1), "3→1#3"),
        (Msg(4, 1), "4→1#4"),
        (Msg(5, 1), ""),
        (Msg(6, 1), ""),
        (Receipt(1, 1), "ack 1, 5→1#5"),
        (Wait(2_000), "nak 6"),
    ]);
}

#[test]
fn a_refused_pull_is_sent_again_after_a_second() {
    check(&[
        (Join(1), "pull#0 4"),
        (Refused(0), ""),
        (Wait(900), ""),
        (Wait(100), "pull#1 4"),
        (Lost, ""),
        (Wait(5_000), ""),
        (Open, "pull#2 4"),
        // An end from before the loss says nothing about now.
        (Ended(1, 4), ""),
        (Ended(2, 4), "pull#3 4"),
    ]);
}
