//! Notifications while the blocks of an older value of the same observation are still to come, in
//! virtual time: the newest value wins whatever overtakes what, and nothing ends an observation
//! that is wanted.

use crate::support::{Device, World};
use lwm2m_gateway::coap::message::option;
use lwm2m_gateway::coap::{Code, Message, MessageType};

const OBSERVE: &str = r#"{"reqID":9,"msgType":"observe","data":{"path":"/3303/0/5700"}}"#;
const BLOCK: &str = "0123456789abcdef";

/// Value of a Block2 option with blocks of 16 bytes.
fn block2(number: u32, more: bool) -> u32 {
    number << 4 | u32::from(more) << 3
}

struct Observed {
    world: World,
    device: Device,
    request: Message,
}

impl Observed {
    /// An Observe that the device has not answered.
    fn asked() -> Self {
        let mut world = World::new();
        let device = Device::registered(&mut world, "ep1", 5001);
        world.command("ep1", OBSERVE);
        let request = world.next_for(device.peer);
        assert_eq!(request.observe(), Some(0));
        Self {
            world,
            device,
            request,
        }
    }

    /// One that it has confirmed with sequence number 1.
    fn confirmed() -> Self {
        let mut it = Self::asked();
        let answer = it.device.answer(&it.request, Code::CONTENT);
        let answer = answer.uint(option::OBSERVE, 1).payload("20");
        it.world.datagram(it.device.peer, &answer.build());
        assert_eq!(it.published(), ("observe".into(), 1, "20".into()));
        it
    }

    /// The first of the blocks of an answer to the Observe.
    fn first_block_of_answer(&mut self, sequence: u32) {
        let answer = self.device.answer(&self.request, Code::CONTENT);
        let answer = answer
            .uint(option::OBSERVE, sequence)
            .uint(option::BLOCK2, block2(0, true))
            .payload(BLOCK);
        self.world.datagram(self.device.peer, &answer.build());
    }

    /// The device notifies, confirmable; the acknowledgement is taken.
    fn notify(&mut self, sequence: u32, block: Option<u32>, payload: &str) {
        let message = self
            .device
            .separate(MessageType::Confirmable, &self.request, Code::CONTENT);
        let message = message.uint(option::OBSERVE, sequence);
        let message = match block {
            Some(block) => message.uint(option::BLOCK2, block),
            None => message,
        };
        let message = message.payload(payload.as_bytes());
        self.world.datagram(self.device.peer, &message.build());
        let ack = self.world.next_for(self.device.peer);
        let expected = (MessageType::Acknowledgement, self.device.mid);
        assert_eq!((ack.kind(), ack.mid()), expected, "never a Reset");
    }

    fn next_request(&mut self) -> Message {
        self.world.next_for(self.device.peer)
    }

    /// The last block of what `request` asks for.
    fn last_block(&mut self, request: &Message, number: u32) {
        let answer = self.device.answer(request, Code::CONTENT);
        let answer = answer
            .uint(option::BLOCK2, block2(number, false))
            .payload("!");
        self.world.datagram(self.device.peer, &answer.build());
    }

    /// `msgType`, `seqNum` and the value of the next message.
    fn published(&mut self) -> (String, u64, String) {
        let json = self.world.next_published().json;
        let value = &json["data"]["content"][0]["value"];
        let value = value.as_str().map_or_else(|| value.to_string(), Into::into);
        let kind = json["msgType"].as_str().unwrap_or_default();
        (kind.into(), json["seqNum"].as_u64().unwrap_or(0), value)
    }
}

fn value(blocks: usize) -> String {
    BLOCK.repeat(blocks) + "!"
}

#[test]
fn a2_a_notification_during_the_blocks_of_the_first_answer_is_taken() {
    let mut it = Observed::asked();
    it.first_block_of_answer(8);
    let rest = it.next_request();
    assert_eq!(rest.uint_option(option::BLOCK2, 3), Some(block2(1, false)));
    // Before that block is served.
    it.notify(9, None, "small");
    assert_eq!(it.published(), ("notify".into(), 9, "small".into()));
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("observe".into(), 8, value(1)));
    it.notify(10, None, "later");
    assert_eq!(it.published(), ("notify".into(), 10, "later".into()));
    it.world.assert_quiet();
    assert_eq!(it.world.counter("observations"), 1);
}

#[test]
fn a2_a_notification_in_blocks_during_the_blocks_of_the_first_answer() {
    let mut it = Observed::asked();
    it.first_block_of_answer(8);
    let rest = it.next_request();
    it.notify(9, Some(block2(0, true)), BLOCK);
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("observe".into(), 8, value(1)));
    let rest = it.next_request();
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("notify".into(), 9, value(1)));
    it.world.assert_quiet();
}

#[test]
fn a2_an_answer_that_cannot_be_put_together_leaves_no_observation() {
    let mut it = Observed::asked();
    it.first_block_of_answer(8);
    let rest = it.next_request();
    assert_eq!(it.world.counter("observations"), 1);
    let answer = it.device.answer(&rest, Code::CONTENT);
    let answer = answer.uint(option::BLOCK2, block2(7, true)).payload(BLOCK);
    it.world.datagram(it.device.peer, &answer.build());
    let json = it.world.next_published().json;
    assert_eq!(json["data"]["reason"], "bad_block", "{json}");
    assert_eq!(it.world.counter("observations"), 0);
    it.world.assert_quiet();
}

#[test]
fn a2_a_device_that_registers_anew_in_the_midst_is_asked_again_after_the_answer() {
    let mut it = Observed::asked();
    it.first_block_of_answer(8);
    let rest = it.next_request();
    it.device.register(&mut it.world, &[], "</1/0>,</3303/0>");
    while it.world.published.pop_front().is_some() {}
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("observe".into(), 8, value(1)));
    let again = it.next_request();
    assert_eq!(again.observe(), Some(0));
    assert_eq!(again.token(), it.request.token());
}

#[test]
fn a3_blocks_of_an_older_notification_are_not_published_after_a_newer_one() {
    let mut it = Observed::confirmed();
    it.notify(20, Some(block2(0, true)), BLOCK);
    let rest = it.next_request();
    it.notify(21, None, "short");
    assert_eq!(it.published(), ("notify".into(), 21, "short".into()));
    it.last_block(&rest, 1);
    it.world.assert_quiet();
    it.notify(22, None, "next");
    assert_eq!(it.published(), ("notify".into(), 22, "next".into()));
}

#[test]
fn a3_an_older_one_that_is_whole_does_not_end_the_fetch_of_a_newer_one() {
    let mut it = Observed::confirmed();
    it.notify(20, Some(block2(0, true)), BLOCK);
    let rest = it.next_request();
    // It was overtaken; nothing newer has been published so far.
    it.notify(19, None, "late");
    assert_eq!(it.published(), ("notify".into(), 19, "late".into()));
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("notify".into(), 20, value(1)));
    it.notify(19, None, "late");
    it.notify(20, Some(block2(0, true)), BLOCK);
    it.world.assert_quiet();
    assert_eq!(it.world.counter("notifications_stale"), 2);
}

#[test]
fn a3_the_first_block_that_comes_again_begins_no_second_fetch() {
    let mut it = Observed::confirmed();
    it.notify(20, Some(block2(0, true)), BLOCK);
    let rest = it.next_request();
    it.notify(20, Some(block2(0, true)), BLOCK);
    it.notify(18, Some(block2(0, true)), BLOCK);
    it.last_block(&rest, 1);
    assert_eq!(it.published(), ("notify".into(), 20, value(1)));
    it.world.assert_quiet();
}

#[test]
fn a3_a_newer_one_in_blocks_replaces_an_older_one_in_blocks() {
    let mut it = Observed::confirmed();
    it.notify(20, Some(block2(0, true)), BLOCK);
    let old = it.next_request();
    it.notify(21, Some(block2(0, true)), BLOCK);
    let new = it.next_request();
    it.last_block(&old, 1);
    it.last_block(&new, 1);
    assert_eq!(it.published(), ("notify".into(), 21, value(1)));
    it.world.assert_quiet();
}
