//go:build linux

package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What every server is told, and every client says.
const (
	venue  = "venue_1"
	secret = "a-secret-for-measuring-0123456789"

	eventBytes = 300 // of a payload, as it is sent
	terminals  = 100 // as many clients are terminals; the others look on

	// stamp begins the place in a payload where the time of sending stands, in
	// nanoseconds and 16 hexadecimal digits. Servers carry it along unread.
	stamp       = `"t=`
	stampDigits = 16
)

// token signs what a member of staff holds. Each client has its own: a server
// that remembers one signature gains nothing.
func token(n int) string {
	claims := map[string]any{
		"sub": fmt.Sprintf("staff_%04d", n), "orgId": "org_1", "venueId": venue, "role": "MANAGER",
		"iss": "avoqado-api", "aud": "avoqado-clients",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	if n < terminals {
		claims["terminalSerialNumber"] = terminalOf(n)
	}
	body, _ := json.Marshal(claims) // strings and integers
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(body)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func terminalOf(n int) string { return fmt.Sprintf("AVQD-%010d", n) }

// upgrade is the HTTP request that opens a connection.
func upgrade(host string) string {
	return "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: " + host +
		"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
}

// clientFrame wraps a text in a frame with a mask of zeros: the server has the
// work of undoing it, the client none.
func clientFrame(text string) []byte {
	const masked, fin, textFrame = 0x80, 0x80, 1
	b := []byte{fin | textFrame, masked | byte(len(text))}
	if len(text) > 125 {
		b[1] = masked | 126
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
	}
	return append(append(b, 0, 0, 0, 0), text...)
}

// header reads that of a server's frame: how long it is, and the payload. Both
// are 0 while it is not all there.
func header(b []byte) (head, size int) {
	switch {
	case len(b) < 2:
		return 0, 0
	case b[1] < 126:
		return 2, int(b[1])
	case b[1] == 126 && len(b) >= 4:
		return 4, int(binary.BigEndian.Uint16(b[2:]))
	case b[1] == 127 && len(b) >= 10:
		return 10, int(binary.BigEndian.Uint64(b[2:]))
	}
	return 0, 0
}

// message is a frame that one client sends again and again: only its time and
// its number change, in place.
type message struct {
	frame        []byte
	time, number int // where they stand; number is 0 if there is none
}

// The events. What the venue hears of the first is neither stored nor
// acknowledged, the second is answered and heard by nobody, the third is all
// there is: stored, acknowledged, and heard by the others.
func logMessage(n int) message {
	return newMessage(`42["tpv:log",`, `{"level":"INFO","tag":"bench","message":"t=0000000000000000`,
		`","terminalId":"`+terminalOf(n)+`","venueId":"`+venue+`","timestamp":1790000000000}`)
}

func heartbeatMessage(n int) message {
	return newMessage(`421["tpv:heartbeat",`, `{"healthScore":95,"note":"t=0000000000000000`,
		`","health":{"memory":{"totalMB":2048,"usagePercent":41},"battery":{"level":88,"isCharging":true}},"terminalId":"`+
			terminalOf(n)+`","venueId":"`+venue+`","timestamp":1790000000000}`)
}

func paymentMessage(n int) message {
	return newMessage(`421["payment_completed",`, `{"amount":120.50,"currency":"MXN","note":"t=0000000000000000`,
		`","paymentId":"pay_0000000000000000","orderId":"order_`+strconv.Itoa(n)+`","venueId":"`+venue+`","method":"CARD"}`)
}

func newMessage(event, before, after string) message {
	pad := strings.Repeat("x", max(0, eventBytes-len(before)-len(after)))
	m := message{frame: clientFrame(event + before + pad + after + "]")}
	text := string(m.frame)
	m.time = strings.Index(text, stamp) + len(stamp)
	if at := strings.Index(text, "pay_"); at >= 0 {
		m.number = at + len("pay_")
	}
	return m
}

// set writes the time and the number into the frame.
func (m *message) set(now, number int64) {
	putHex(m.frame[m.time:m.time+stampDigits], uint64(now))
	if m.number > 0 {
		putHex(m.frame[m.number:m.number+stampDigits], uint64(number))
	}
}

func putHex(to []byte, v uint64) {
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = "0123456789abcdef"[v&15]
		v >>= 4
	}
}

func hex(from []byte) (v int64) {
	for _, c := range from {
		if c >= 'a' {
			c -= 'a' - '0' - 10
		}
		v = v<<4 | int64(c-'0')
	}
	return v
}
