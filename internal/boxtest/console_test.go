package boxtest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/event"
)

const shown = 30 * time.Second // a busy machine; how long it took is logged

// A manager with a phone and a technician with a laptop look at the box in a
// real browser, while it works, while the cloud is gone and after.
func TestConsole(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a minute in a browser")
	}
	broker := StartMosquitto(t, MosquittoConfig{})
	backend := StartBackend(t, broker, false, nil)
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	b := StartBrowser(t)

	// With a code from the command line, by keyboard alone, on a small phone.
	b.Open(box.URL(), "es-MX", "light", 360)
	b.See("h1", "Caja de v1", shown)
	b.Good("login-phone")
	b.Fill("#secret", "000 000")
	b.Press("Enter")
	b.See("#problem", "No vale", shown)
	out, errs, code := box.Command("token", "code")
	if code != 0 {
		t.Fatalf("token code: %d %s", code, errs)
	}
	b.Fill("#secret", sixDigits(t, out))
	b.Press("Enter")
	b.See("#mood", "Todo en orden", shown)

	// What a real terminal does is seen at once.
	terminal := StartJava(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Cashier, "c1", "AVQD-77"), Venue: Venue, Terminal: "AVQD-77"})
	terminal.ExpectAck(0, shown)
	b.Click("a[href='#terminals']")
	b.See(".terminal", `77.*conectada`, shown)
	terminal.Emit("tpv:heartbeat", json.RawMessage(`{"terminalId":"AVQD-77","venueId":"v1","healthScore":93,`+
		`"health":{"battery":{"level":88,"isCharging":true},"device":{"appVersion":"2.9.2"}}}`))
	b.See(".terminal", `88 %.*cargando.*2\.9\.2.*93 / 100`, shown)
	away := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Waiter, "w2", "AVQD-78"), Venue: Venue, Terminal: "AVQD-78"})
	away.ExpectAck(0, shown)
	away.Kill()
	b.See(".cards", `78.*desconectada.*77.*conectada`, shown)
	b.Good("terminals-phone")
	b.Click("a[href='#events']")
	terminal.Emit("payment_completed", json.RawMessage(`{"paymentId":"p1","amount":"120.50","currency":"MXN","venueId":"v1","card":"4111 1111 1111 1111"}`))
	t.Logf("a payment is seen after %s", b.See(".event", `Cobro hecho.*120\.50 MXN`, shown))
	b.Good("events-phone")
	backend.Await(1)
	b.See(".event .mark", "en la central", shown)
	b.Click(".event")
	b.See(".path", `Aceptado.*77.*Guardado en disco.*número 1.*todo el local.*Central.*confirmado`, shown)
	b.take(step{Do: "eval", Text: "document.querySelector('.sheet details').open = true"}, nil)
	b.See(".sheet pre", `•••• 1111`, shown)
	b.Good("event-phone")
	b.Press("Escape")
	b.Fill("#filter", "no-such-thing")
	b.See(".empty", "Nada coincide", shown)
	b.Fill("#filter", "p1 AVQD")
	b.Fill("#filter", "p1 mxn")
	b.See(".tail", "Cobro hecho", shown)
	b.Fill("#filter", " ")

	// An alert reaches a real client.
	kitchen := StartJS(t, ClientConfig{URL: box.URL(), Token: box.Token(event.Kitchen, "k1", ""), Venue: Venue})
	kitchen.ExpectAck(0, shown)
	b.Click("a[href='#alerts']")
	b.Fill("#title", "Cierre")
	b.Fill("#message", "Hoy cerramos a las 22:00")
	b.Click(".option input[value=warning]")
	b.Click(".option input[value=KITCHEN]")
	b.Click("button.main")
	if heard := kitchen.ExpectEvent("system_alert", shown); !strings.Contains(heard.Raw, `"title":"Cierre"`) || !strings.Contains(heard.Raw, `"level":"warning"`) {
		t.Errorf("the kitchen heard %s", heard.Raw)
	}
	b.See("[role=status]", "Enviado", shown)
	b.See(".alerts", "Cierre", shown)
	b.Click("a[href='#events']")
	b.See(".event.alerts", "Aviso.*Cierre", shown)
	b.Click("a[href='#alerts']")
	b.Good("alerts-phone")
	b.Click("a[href='#box']")
	b.See("main", `Versión.*desgaste.*Estado.*conectada · desde`, shown)
	var qr int
	b.take(step{Do: "eval", Text: "document.querySelector('.pairing img').decode().then(() => document.querySelector('.pairing img').naturalWidth)"}, &qr)
	if qr == 0 {
		t.Error("there is no QR code")
	}
	b.Good("box-phone")

	consoleOutage(t, b, box, broker, terminal)
	token := consoleElsewhere(t, b, box)

	// Whoever leaves is out, and so is who kept the token.
	b.Click("button.quiet")
	b.See("h1", "Box of v1", shown)
	if status, body := box.Do("GET", "/api/v1/session", token, ""); status != 401 {
		t.Errorf("the token after logging out: %d %s", status, body)
	}
}

// consoleOutage takes the cloud away and brings it back.
func consoleOutage(t *testing.T, b *Browser, box *Box, broker *Mosquitto, terminal *Client) {
	t.Helper()
	b.Click("a[href='#status']")
	b.See("#mood", "Todo en orden", shown)
	b.See(".way li:nth-child(3)", `Nube.*bien.*desde`, shown)
	b.Good("status-phone")
	broker.Kill()
	t.Logf("the loss of the broker is seen after %s", b.See("#mood", "Sin (internet|conexión con la nube) desde", shown))
	for i := range 3 {
		terminal.Emit("payment_completed", json.RawMessage(fmt.Sprintf(`{"paymentId":"o%d","amount":"10","currency":"MXN","venueId":"v1"}`, i)))
	}
	b.See("#tile-waiting", "^3$", shown)
	b.See(".hero", `sigue funcionando. 3 eventos`, shown)
	b.See(".way", `caído`, shown)
	b.See("#chart-text", "Máximo: 3", shown)
	b.See("main", `Cortes de los últimos 7 días.*lleva \d+ s · (Se perdió la conexión|El servidor en la nube no está)`, shown)
	b.Good("outage-phone")
	b.Click("a[href='#terminals']")
	b.See(".cards", `3 eventos`, shown)
	b.Click("a[href='#status']")
	broker.Start()
	b.See("#mood", "Todo en orden", time.Minute)
	b.See("#tile-waiting", "^0$", shown)
	b.See("main", `Cortes de los últimos 7 días.*duró \d+ s · (Se perdió la conexión|El servidor en la nube no está).*3 eventos`, shown)
	var drawn int
	b.take(step{Do: "eval", Text: "document.querySelectorAll('.week rect.down').length"}, &drawn)
	if drawn == 0 {
		t.Error("the outage is in the list and not in the timeline")
	}
	// A box that goes is not shown as one that is well, and comes back by itself
	// with what it remembers.
	box.Kill()
	t.Logf("the loss of the box is seen after %s", b.See("#mood", "La caja no responde", shown))
	b.See(".way", "no se sabe.*no se sabe.*no se sabe.*no se sabe", shown)
	b.Good("gone-phone")
	box.Start()
	// A token of a code ends with the box.
	b.See("h1", "Caja de v1", shown)
}

// consoleElsewhere is the technician: in English, with a laptop, in the dark. It
// returns the token that the page is logged in by.
func consoleElsewhere(t *testing.T, b *Browser, box *Box) (token string) {
	t.Helper()
	b.Open(box.URL(), "en-US", "dark", 1280)
	b.See("h1", "Box of v1", shown)
	b.Click(".choice button:last-child")
	b.See("label[for=secret]", "Access token", shown) // else it is typed into the field for the code
	b.Fill("#secret", box.Token(event.Waiter, "w1", ""))
	b.Press("Enter")
	b.See("[role=alert]", "Your role", shown)
	b.Good("no-role-dark")
	b.Click("main button")
	b.See("h1", "Box of v1", shown)
	token = box.Token(event.Manager, "m1", "")
	b.Fill("#secret", token)
	b.Press("Enter")
	b.See("#mood", "All is well", shown)
	b.See("#chart-text", ".", shown)
	b.Good("status-dark")
	b.Click(".languages button[lang=es]")
	b.See("#mood", "Todo en orden", shown)
	b.Click(".languages button[lang=en]")
	b.See("#mood", "All is well", shown)

	// Everything is reached by the keyboard, in the order in which one reads.
	var trail []string
	b.take(step{Do: "reload"}, nil)
	b.See("#mood", "All is well", shown)
	for range 9 {
		b.Press("Tab")
		var at string
		b.take(step{Do: "focus"}, &at)
		trail = append(trail, strings.TrimSpace(at))
	}
	if got := strings.Join(trail, "|"); got != "Skip to content|ES|EN|Log out|Status|Terminals|Events|Alerts|Box" {
		t.Errorf("Tab leads to %s", got)
	}
	for _, page := range []string{"terminals", "events", "alerts", "box"} {
		b.Click("a[href='#" + page + "']")
		b.See("h1", ""+page, shown)
		b.Good(page + "-dark")
	}
	return token
}

// What the back-end will not take is shown with its reason, and what waits
// behind it, too.
func TestConsoleShowsWhatIsParked(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("half a minute in a browser")
	}
	broker := StartMosquitto(t, MosquittoConfig{})
	box := StartBox(t, BoxConfig{Broker: broker.URL()})
	stop := listenTo(t, broker, filepath.Join(t.TempDir(), "ledger.db"), "--refuse-type", "order_deleted")
	defer stop()
	sayOrder(t, box, "order_created", "A7", "")
	sayOrder(t, box, "order_deleted", "A7", "")
	parked := func(n int) {
		Eventually(t, 30*time.Second, fmt.Sprint(n, " are parked"), func() bool { return box.Status().Uplink.Parked == n })
	}
	parked(1)
	sayOrder(t, box, "order_updated", "A7", "")
	parked(2)

	b := StartBrowser(t)
	b.Open(box.URL(), "es-MX", "dark", 360)
	b.Click(".choice button:last-child")
	b.See("label[for=secret]", "Token de acceso", shown)
	b.Fill("#secret", box.Token(event.Manager, "m1", ""))
	b.Press("Enter")
	b.See(".notices", "2 eventos que la central no acepta", shown)
	b.Click("a[href='#events']")
	b.See("[aria-labelledby=parked]", "Eventos que la central no acepta.*Motivo: .*apartado hace", shown)
	b.See(".tail", "Orden cambiada.*la central no lo acepta.*Orden borrada.*la central no lo acepta.*Orden (nueva|creada).*en la central", shown)
	b.Good("parked-phone")
	b.Click("[aria-labelledby=parked] li:first-child button")
	b.See(".path", "Guardado en disco.*no lo acepta: ", shown)
	b.Good("parked-event-phone")
	b.Press("Escape")

	// What a technician decides is seen: nothing is said to be where it is not.
	if _, stderr, code := box.Command("events", "drop", "2", "--note", "by hand"); code != 0 {
		t.Fatalf("events drop: %d %s", code, stderr)
	}
	b.See(".tail", "Orden cambiada.*en la central.*Orden cambiada.*enviado de nuevo desde otro lugar.*Orden borrada.*la central no lo acepta.*Orden (nueva|creada).*en la central", shown)
	b.Click(".tail li:nth-child(3) button")
	b.See(".path", "Guardado en disco.*un técnico lo descartó", shown)
}

func sixDigits(t *testing.T, out string) string {
	t.Helper()
	if words := strings.Fields(out); len(words) > 2 && len(words[0]+words[1]) == 6 {
		return words[0] + words[1]
	}
	t.Fatalf("there is no code in %q", out)
	return ""
}

// The page and its data ask for a login, and other sites' pages cannot use it.
func TestConsoleIsClosed(t *testing.T) {
	t.Parallel()
	box := StartBox(t, BoxConfig{})
	for _, path := range []string{"/api/v1/status", "/api/v1/history", "/api/v1/terminals", "/api/v1/outages"} {
		if status, _ := box.Do("GET", path, "", ""); status != 401 {
			t.Errorf("%s without a token: %d", path, status)
		}
	}
	var st struct {
		Way []struct{ Name, State string }
	}
	_, body := box.Do("GET", "/api/v1/status", box.Token(event.Manager, "m1", ""), "")
	if err := json.Unmarshal([]byte(body), &st); err != nil || len(st.Way) != 4 || st.Way[0].State != "ok" || st.Way[3].State != "off" {
		t.Errorf("way %+v, %v", st.Way, err)
	}
	if status, body := box.Do("GET", "/api/v1/history?hours=1", box.Token(event.Manager, "m1", ""), ""); status != 200 || strings.Count(body, ",") < 100 {
		t.Errorf("history: %d %s", status, body)
	}
	if status, _ := box.Do("GET", "/api/v1/history?hours=169", box.Token(event.Manager, "m1", ""), ""); status != 400 {
		t.Errorf("more than is kept: %d", status)
	}
}
