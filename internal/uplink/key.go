package uplink

import "github.com/avoqado/avoqado-edge/internal/event"

// appendKeys appends what an event is about, as the cloud may see it change: the
// order and the payment it names, by which money and orders belong together;
// else its table; else the terminal it comes from; else its kind. What one key
// says must reach the cloud in the order in which it happened; see DESIGN.md,
// Lanes.
func appendKeys(keys []string, e *event.Event) []string {
	had := len(keys)
	o, err := event.ParseObject(e.Payload)
	if err == nil {
		for _, member := range [...]string{"orderId", "paymentId", "requestId"} {
			if id := o.Ident(member); id != "" {
				keys = append(keys, member+"/"+id)
			}
		}
	}
	if row, known := event.Lookup(e.Kind); known && e.Subject != "" && err == nil && len(keys) == had && row.Subject != "tableId" && row.Subject != "terminalId" {
		keys = append(keys, row.Subject+"/"+e.Subject)
	}
	if len(keys) == had && err == nil {
		if id := o.Ident("tableId"); id != "" {
			keys = append(keys, "tableId/"+id)
		}
	}
	if len(keys) == had && e.Terminal != "" {
		keys = append(keys, "terminal/"+e.Terminal)
	}
	if len(keys) == had {
		keys = append(keys, "kind/"+string(e.Kind))
	}
	return keys
}
