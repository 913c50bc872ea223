"""Scenarios for the Paho Python client against a running broker: paho-python.py PORT VERSION SCENARIO.

Ends with 0 when the scenario holds; an AssertionError or a time-out otherwise. Names of topics and clients carry the
version and the scenario, so all of them can share one broker.
"""
import queue
import socket
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

WAIT_SEC = 5
LARGE_BYTES = 900 * 1024
PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}

port, version, scenario = int(sys.argv[1]), sys.argv[2], sys.argv[3]
protocol = PROTOCOLS[version]
prefix = f"python/{version}/{scenario}"


class Peer:
    """A connected client; everything it is told comes out of queues."""

    def __init__(self, name, clean=True, will=None, expiry_sec=0, properties=None, client_id=None):
        self.messages, self.events = queue.Queue(), queue.Queue()
        client_id = f"{version}-{scenario}-{name}" if client_id is None else client_id
        self.is5 = protocol == mqtt.MQTTv5
        if self.is5:
            self.client = mqtt.Client(client_id, protocol=protocol)
            self.client.on_connect = lambda c, u, flags, code, props: self.events.put(("connect", flags, code, props))
            self.client.on_subscribe = lambda c, u, mid, codes, props: self.events.put(("subscribe", [x.value for x in codes]))
            self.client.on_unsubscribe = lambda c, u, mid, props, codes: self.events.put(("unsubscribe", codes))
        else:
            self.client = mqtt.Client(client_id, clean_session=clean, protocol=protocol)
            self.client.on_connect = lambda c, u, flags, code: self.events.put(("connect", flags, code, None))
            self.client.on_subscribe = lambda c, u, mid, codes: self.events.put(("subscribe", list(codes)))
            self.client.on_unsubscribe = lambda c, u, mid: self.events.put(("unsubscribe", None))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        if will is not None:
            self.client.will_set(**will)
        options = {}
        if self.is5:
            properties = properties or Properties(PacketTypes.CONNECT)
            if expiry_sec:
                properties.SessionExpiryInterval = expiry_sec
            options = {"clean_start": clean, "properties": properties}
        self.client.connect("127.0.0.1", port, 60, **options)
        self.client.loop_start()
        _, self.flags, code, self.properties = self.event("connect")
        assert code == 0, code

    def event(self, kind):
        event = self.events.get(timeout=WAIT_SEC)
        assert event[0] == kind, event
        return event

    def subscribe(self, topic, qos, **more):
        self.client.subscribe(topic, qos, **more) if qos is not None else self.client.subscribe(topic, **more)
        return self.event("subscribe")[1]

    def publish(self, topic, payload, qos=0, retain=False, **more):
        self.client.publish(topic, payload, qos, retain, **more).wait_for_publish(WAIT_SEC)

    def next(self):
        return self.messages.get(timeout=WAIT_SEC)

    def end(self):
        self.client.disconnect()
        self.client.loop_stop()

    def cut(self):
        self.client.socket().shutdown(socket.SHUT_RDWR)


def shown(message):
    return (message.topic, bytes(message.payload), message.qos, bool(message.retain))


def qos():
    publisher = Peer("p")
    for granted in (0, 1, 2):
        subscriber = Peer("s")
        assert subscriber.subscribe(f"{prefix}/#", granted) == [granted]
        for sent in (0, 1, 2):
            for i in range(20):
                publisher.publish(f"{prefix}/{sent}", b"%d" % i, sent)
            for i in range(20):
                assert shown(subscriber.next()) == (f"{prefix}/{sent}", b"%d" % i, min(sent, granted), False)
        subscriber.end()
    publisher.end()


def large():
    peer = Peer("p")
    payload = bytes(range(256)) * (LARGE_BYTES // 256)
    peer.subscribe(prefix, 2)
    for level in (0, 1, 2):
        peer.publish(prefix, payload, level)
        assert shown(peer.next()) == (prefix, payload, level, False)
    peer.end()


def retained():
    publisher = Peer("p")
    publisher.publish(f"{prefix}/a", b"kept", 1, True)
    first = Peer("s1")
    first.subscribe(f"{prefix}/+", 2)
    assert shown(first.next()) == (f"{prefix}/a", b"kept", 1, True)
    publisher.publish(f"{prefix}/a", b"", 1, True)
    assert shown(first.next()) == (f"{prefix}/a", b"", 1, False)
    last = Peer("s2")
    last.subscribe(f"{prefix}/+", 2)
    publisher.publish(f"{prefix}/b", b"live", 1)
    assert shown(last.next()) == (f"{prefix}/b", b"live", 1, False)


def will():
    watcher = Peer("w")
    watcher.subscribe(f"{prefix}/#", 2)
    Peer("polite", will={"topic": f"{prefix}/polite", "payload": b"gone", "qos": 1}).end()
    Peer("dying", will={"topic": f"{prefix}/dying", "payload": b"gone", "qos": 2}).cut()
    assert shown(watcher.next()) == (f"{prefix}/dying", b"gone", 2, False)


def session():
    first = Peer("s", clean=False, expiry_sec=600)
    first.subscribe(prefix, 2)
    first.end()
    publisher = Peer("p")
    for level in (0, 1, 2):
        publisher.publish(prefix, b"m%d" % level, level)
    again = Peer("s", clean=False, expiry_sec=600)
    # The CONNACK of 3.1 has no such flag.
    assert again.flags["session present"] == (0 if version == "3.1" else 1)
    assert sorted(shown(again.next()) for _ in range(2)) == [(prefix, b"m1", 1, False), (prefix, b"m2", 2, False)]
    again.end()


def unsubscribe():
    peer = Peer("p")
    peer.subscribe(f"{prefix}/a", 1)
    peer.subscribe(f"{prefix}/b", 1)
    peer.client.unsubscribe(f"{prefix}/a")
    peer.event("unsubscribe")
    peer.publish(f"{prefix}/a", b"1", 1)
    peer.publish(f"{prefix}/b", b"2", 1)
    assert shown(peer.next()) == (f"{prefix}/b", b"2", 1, False)


def shared():
    members = [Peer("a"), Peer("b")]
    for member in members:
        member.subscribe(f"$share/group/{prefix}", 1)
    publisher = Peer("p")
    for i in range(4):
        publisher.publish(prefix, b"%d" % i, 1)
    payloads = [bytes(member.next().payload) for member in members for _ in range(2)]
    assert sorted(payloads) == [b"0", b"1", b"2", b"3"], payloads


def properties():
    peer = Peer("p")
    words = Properties(PacketTypes.SUBSCRIBE)
    words.SubscriptionIdentifier = 5
    peer.subscribe(prefix, None, options=SubscribeOptions(qos=2, noLocal=False), properties=words)
    sent = Properties(PacketTypes.PUBLISH)
    sent.ContentType = "text/plain"
    sent.ResponseTopic = "answers"
    sent.CorrelationData = b"\x00\xff"
    sent.MessageExpiryInterval = 3600
    sent.PayloadFormatIndicator = 1
    sent.UserProperty = [("k", "1"), ("k", "2"), ("a", "3")]
    sent.TopicAlias = 3
    peer.publish(prefix, b"m", 2, properties=sent)
    got = peer.next().properties
    assert (got.ContentType, got.ResponseTopic, got.CorrelationData) == ("text/plain", "answers", b"\x00\xff")
    assert (got.MessageExpiryInterval, got.PayloadFormatIndicator) == (3600, 1)
    assert got.UserProperty == [("k", "1"), ("k", "2"), ("a", "3")], got.UserProperty
    assert got.SubscriptionIdentifier == [5], got.SubscriptionIdentifier
    assert not hasattr(got, "TopicAlias")


def assigned():
    peer = Peer("", client_id="")
    assert len(peer.properties.AssignedClientIdentifier) > 0
    assert peer.subscribe(prefix, 1) == [1]
    peer.client.unsubscribe([prefix, f"{prefix}/none"])
    codes = peer.event("unsubscribe")[1]
    assert [code.value for code in codes] == [0, 0x11], codes


globals()[scenario]()
