package simulate

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"

	"github.com/avoqado/avoqado-edge/internal/event"
)

// step is one event of a sale: its name, its payload as it goes out each time,
// and the key that makes a repeat of it a repeat.
type step struct {
	kind    event.Kind
	key     string
	payload json.RawMessage
}

// seller says who sells where; all it makes follows from it and a number.
type seller struct {
	venue, terminal, run string
	role                 event.Role
	seed                 uint64
}

// The shapes terminals send (contract §3.2, §3.3): payments in pesos as
// decimal strings, orders in pesos as numbers. json.Number keeps the two
// decimals, which a box must pass on as they are.
type (
	orderBody struct {
		OrderID     string      `json:"orderId"`
		OrderNumber string      `json:"orderNumber"`
		OrderType   string      `json:"orderType"`
		VenueID     string      `json:"venueId"`
		TableID     string      `json:"tableId"`
		Covers      int         `json:"covers"`
		Status      string      `json:"status"`
		Items       []orderItem `json:"items"`
		Subtotal    json.Number `json:"subtotal"`
		Total       json.Number `json:"total"`
		Version     int         `json:"version"`
		Key         string      `json:"idempotencyKey"`
	}
	orderItem struct {
		ID          string      `json:"id"`
		ProductID   string      `json:"productId"`
		ProductName string      `json:"productName"`
		Quantity    int         `json:"quantity"`
		UnitPrice   json.Number `json:"unitPrice"`
		Total       json.Number `json:"total"`
	}
	paymentBody struct {
		PaymentID    string            `json:"paymentId"`
		OrderID      string            `json:"orderId"`
		OrderNumber  string            `json:"orderNumber"`
		VenueID      string            `json:"venueId"`
		TableID      string            `json:"tableId"`
		Amount       string            `json:"amount"`
		TipAmount    string            `json:"tipAmount"`
		Currency     string            `json:"currency"`
		Method       string            `json:"method"`
		ErrorMessage string            `json:"errorMessage,omitempty"`
		Metadata     map[string]string `json:"metadata,omitempty"`
		Key          string            `json:"idempotencyKey"`
	}
)

// dish is something to eat, its price in centavos.
type dish struct {
	id, name string
	price    int
}

// menu returns what the simulated kitchen has.
func menu() []dish {
	return []dish{
		{"prod_taco", "Tacos al pastor", 9500},
		{"prod_enchilada", "Enchiladas verdes", 16450},
		{"prod_mole", "Mole negro con pollo", 21990},
		{"prod_agua", "Agua de jamaica", 4500},
		{"prod_cerveza", "Cerveza clara", 6550},
		{"prod_flan", "Flan de cajeta", 7825},
	}
}

// declined is the share of card payments, in percent, that do not go through.
const declined = 5

// sale returns the n-th sale: a table orders, eats, and pays. It holds the
// steps the role may take; the same seller and number give the same sale.
func (s seller) sale(n uint64) []step {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.terminal)) // a hash never fails
	r := rand.New(rand.NewPCG(s.seed^h.Sum64(), n))

	id := fmt.Sprintf("%s-%s-%d", s.run, s.terminal, n)
	order := orderBody{
		OrderID: "ord-" + id, OrderNumber: fmt.Sprintf("ORD-%06d", n), OrderType: "DINE_IN",
		VenueID: s.venue, TableID: fmt.Sprintf("table-%d", 1+r.IntN(20)), Covers: 1 + r.IntN(6),
		Status: "OPEN", Version: 1,
	}
	total, dishes := 0, menu()
	for i := range 1 + r.IntN(4) {
		dish, quantity := dishes[r.IntN(len(dishes))], 1+r.IntN(3)
		total += quantity * dish.price
		order.Items = append(order.Items, orderItem{
			ID: fmt.Sprintf("item-%s-%d", id, i), ProductID: dish.id, ProductName: dish.name, Quantity: quantity,
			UnitPrice: json.Number(pesos(dish.price)), Total: json.Number(pesos(quantity * dish.price)),
		})
	}
	order.Subtotal, order.Total = json.Number(pesos(total)), json.Number(pesos(total))

	payment := paymentBody{
		PaymentID: "pay-" + id, OrderID: order.OrderID, OrderNumber: order.OrderNumber,
		VenueID: s.venue, TableID: order.TableID, Currency: "MXN",
		Amount: pesos(total), TipAmount: pesos(total * r.IntN(4) * 5 / 100), Method: "CASH",
	}
	settled := event.PaymentCompleted
	if r.IntN(3) > 0 {
		payment.Method = "CREDIT_CARD"
		payment.Metadata = map[string]string{"cardBrand": "VISA", "last4": fmt.Sprintf("%04d", r.IntN(10000))}
		if r.IntN(100) < declined {
			settled = event.PaymentFailed
		}
	}

	var steps []step
	add := func(kind event.Kind, fill func(key string) any) {
		row, known := event.Lookup(kind)
		if !known || row.MaySend(s.role) != nil {
			return
		}
		key := fmt.Sprintf("%s-%d", id, len(steps))
		payload, _ := json.Marshal(fill(key)) // strings and numbers of ours always encode
		steps = append(steps, step{kind, key, payload})
	}
	add(event.OrderCreated, func(key string) any { order.Key = key; return order })
	add(event.OrderUpdated, func(key string) any {
		order.Key, order.Version, order.Status = key, 2, "CONFIRMED"
		return order
	})
	add(event.PaymentInitiated, func(key string) any { payment.Key = key; return payment })
	add(settled, func(key string) any {
		payment.Key = key
		if settled == event.PaymentFailed {
			payment.ErrorMessage = "declined by the issuer"
		}
		return payment
	})
	return steps
}

// pesos writes centavos as terminals do: "120.50".
func pesos(centavos int) string { return fmt.Sprintf("%d.%02d", centavos/100, centavos%100) }

// heartbeat returns the n-th tpv:heartbeat of a terminal (contract §3.10).
func (s seller) heartbeat(n uint64, nowMS int64) any {
	return map[string]any{
		"terminalId": s.terminal, "venueId": s.venue, "healthScore": 95, "timestamp": nowMS,
		"health": map[string]any{
			"memory":       map[string]any{"totalMB": 1024, "availableMB": 512, "usedMB": 512, "usagePercent": 50, "lowMemory": false},
			"storage":      map[string]any{"totalMB": 8192, "availableMB": 4096, "usagePercent": 50, "lowStorage": false},
			"battery":      map[string]any{"level": 100 - n%80, "isCharging": true, "temperatureCelsius": 31, "lowBattery": false},
			"connectivity": map[string]any{"socketConnected": true, "online": true},
			"device":       map[string]any{"manufacturer": "PAX", "model": "A910S", "osVersion": "10", "sdkInt": 29, "appVersion": "2.9.2", "appVersionCode": 292, "blumonEnv": "SANDBOX"},
		},
	}
}
