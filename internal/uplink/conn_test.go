package uplink

import (
	"bytes"
	"testing"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestPacketCheck(t *testing.T) {
	var good bytes.Buffer
	for _, size := range []int{0, 1, 120, 127, 128, 16383, 16384, maxPacket - 10} {
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.Qos, p.MessageID, p.TopicName, p.Payload = 1, 1, "t", make([]byte, size)
		if err := p.Write(&good); err != nil {
			t.Fatal(err)
		}
	}
	s := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	s.MessageID, s.ReturnCodes = 1, []byte{1, 1, 1, 1}
	if err := s.Write(&good); err != nil {
		t.Fatal(err)
	}
	if err := packets.NewControlPacket(packets.Pingresp).Write(&good); err != nil {
		t.Fatal(err)
	}
	for _, step := range []int{1, 7, 1000, good.Len()} {
		var k packetCheck
		for b := good.Bytes(); len(b) > 0; b = b[min(step, len(b)):] {
			if err := k.scan(b[:min(step, len(b))]); err != nil {
				t.Fatalf("in steps of %d: %v", step, err)
			}
		}
		if k.state != 0 {
			t.Errorf("in steps of %d: ends inside a packet", step)
		}
	}
	for name, bad := range map[string][]byte{
		"256 MiB":                  {0x30, 0xff, 0xff, 0xff, 0x7f},
		"length of five bytes":     {0x30, 0x80, 0x80, 0x80, 0x80, 0x01},
		"SUBACK with five answers": {0x90, 7, 0, 1, 1, 1, 1, 1, 1},
	} {
		var k packetCheck
		if k.scan(bad) == nil {
			t.Errorf("%s passes", name)
		}
	}
}
