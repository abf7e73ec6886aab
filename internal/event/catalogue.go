package event

import "time"

// Class orders kinds by what may be given up first when the box is short of
// room: a higher class is refused later. Money is never dropped. The numbers
// are on disk and never change meaning.
type Class uint8

// The classes, first to go first.
const (
	Telemetry Class = 1 // heartbeats, logs, progress: volatile
	Service   Class = 2 // menu, printers, notifications
	Alerts    Class = 3 // system alerts, messages to staff
	Orders    Class = 4 // orders, tables, shifts
	Money     Class = 5 // payments
)

// String returns the class as metrics and status name it.
func (c Class) String() string {
	switch c {
	case Telemetry:
		return "telemetry"
	case Service:
		return "service"
	case Alerts:
		return "alerts"
	case Orders:
		return "orders"
	case Money:
		return "money"
	}
	return "unknown"
}

// Row is everything the box knows about one kind of event. Code that serves a
// kind reads its row; there is no branch per kind where a row says it all.
type Row struct {
	Kind     Kind
	Class    Class
	Volatile bool // fanned out at once, never stored nor sent to the cloud

	// Family groups kinds that share sender rules and texts; Type is the
	// kind's name within it, the eventType of an ack.
	Family Family
	Type   string

	// Senders may send it from the LAN; empty: no client may. Publishers may
	// besides send it through the box's HTTP API, as a back-office does.
	Senders []Role

	// Broadcast says the cloud, and publishers, may send it to clients.
	Broadcast bool

	// Subject is the member that holds the natural key. Identity lists the
	// members that make two events under one idempotency key the same event.
	Subject  string
	Identity []string

	// AlsoRoles hear it besides whoever the payload names.
	AlsoRoles []Role

	// Replay is for how long after it was stored a client that missed it gets
	// it on reconnect; zero: not replayed.
	Replay time.Duration
}

// Family is a group of kinds under one sender rule (contract §3.2–3.4).
type Family uint8

// The families. Plain kinds have no sender rule of their own.
const (
	Plain Family = iota
	Payment
	Order
	Alert
)

// The kinds that code names; all others stand in the table alone.
const (
	PaymentInitiated  Kind = "payment_initiated"
	PaymentProcessing Kind = "payment_processing"
	PaymentCompleted  Kind = "payment_completed"
	PaymentFailed     Kind = "payment_failed"

	OrderCreated       Kind = "order_created"
	OrderUpdated       Kind = "order_updated"
	OrderStatusChanged Kind = "order_status_changed"
	OrderDeleted       Kind = "order_deleted"

	SystemAlert       Kind = "system_alert"
	TableStatusChange Kind = "table_status_change"
	TerminalLog       Kind = "terminal:log"
	TerminalHeartbeat Kind = "terminal:heartbeat"
	TPVLog            Kind = "tpv:log"
	TPVHeartbeat      Kind = "tpv:heartbeat"
)

var (
	payers     = []Role{SuperAdmin, Owner, Admin, Manager, Waiter, Cashier}
	settlers   = []Role{SuperAdmin, Owner, Admin, Manager, Cashier}
	orderers   = []Role{SuperAdmin, Owner, Admin, Manager, Waiter, Kitchen}
	deleters   = []Role{SuperAdmin, Owner, Admin, Manager}
	publishers = []Role{SuperAdmin, Owner, Admin, Manager}
	floor      = []Role{Waiter, Kitchen}

	paymentIdentity = []string{"paymentId", "orderId", "amount", "currency"}
	orderIdentity   = []string{"orderId", "status", "total", "items"}
	alertIdentity   = []string{"level", "title", "message", "targetRoles"}
)

// catalogue is the one table. OWNER stands wherever ADMIN does (contract C14).
var catalogue = [...]Row{
	// Payments.
	{Kind: PaymentInitiated, Class: Money, Family: Payment, Type: "initiated", Senders: payers, Broadcast: true, Subject: "paymentId", Identity: paymentIdentity},
	{Kind: PaymentProcessing, Class: Money, Family: Payment, Type: "processing", Senders: payers, Broadcast: true, Subject: "paymentId", Identity: paymentIdentity},
	{Kind: PaymentCompleted, Class: Money, Family: Payment, Type: "completed", Senders: settlers, Broadcast: true, Subject: "paymentId", Identity: paymentIdentity},
	{Kind: PaymentFailed, Class: Money, Family: Payment, Type: "failed", Senders: settlers, Broadcast: true, Subject: "paymentId", Identity: paymentIdentity},
	{Kind: "crypto:payment_confirmed", Class: Money, Broadcast: true, Subject: "paymentId"},
	{Kind: "crypto:payment_failed", Class: Money, Broadcast: true, Subject: "paymentId"},

	// Orders, tables, shifts.
	{Kind: OrderCreated, Class: Orders, Family: Order, Type: "created", Senders: orderers, Broadcast: true, Subject: "orderId", Identity: orderIdentity, AlsoRoles: floor},
	{Kind: OrderUpdated, Class: Orders, Family: Order, Type: "updated", Senders: orderers, Broadcast: true, Subject: "orderId", Identity: orderIdentity},
	{Kind: OrderStatusChanged, Class: Orders, Family: Order, Type: "status_changed", Senders: orderers, Broadcast: true, Subject: "orderId", Identity: orderIdentity},
	{Kind: OrderDeleted, Class: Orders, Family: Order, Type: "deleted", Senders: deleters, Broadcast: true, Subject: "orderId", Identity: orderIdentity},
	{Kind: TableStatusChange, Class: Orders, Broadcast: true, Subject: "tableId"},
	{Kind: "venue_update", Class: Orders, Broadcast: true},
	{Kind: "shift_opened", Class: Orders, Broadcast: true, Subject: "shiftId"},
	{Kind: "shift_updated", Class: Orders, Broadcast: true, Subject: "shiftId"},
	{Kind: "shift_closed", Class: Orders, Broadcast: true, Subject: "shiftId"},
	{Kind: "updateDashboard", Class: Service, Broadcast: true},
	{Kind: "shiftUpdate", Class: Service, Broadcast: true},

	// Words to people. What nobody was there to read is replayed.
	{Kind: SystemAlert, Class: Alerts, Family: Alert, Type: "alert", Senders: deleters, Broadcast: true, Identity: alertIdentity, Replay: 24 * time.Hour},
	{Kind: "notification_new", Class: Alerts, Broadcast: true, Subject: "notificationId"},
	{Kind: "notification_read", Class: Alerts, Broadcast: true, Subject: "notificationId"},
	{Kind: "notification_deleted", Class: Alerts, Broadcast: true, Subject: "notificationId"},
	{Kind: "notification_count_updated", Class: Alerts, Broadcast: true, Subject: "notificationId"},
	{Kind: "notification:updated", Class: Alerts, Broadcast: true, Subject: "id"},
	{Kind: "tpv_message", Class: Alerts, Broadcast: true, Subject: "messageId"},
	{Kind: "tpv_message_cancelled", Class: Alerts, Broadcast: true, Subject: "messageId"},
	{Kind: "sim-custody.assigned-to-promoter", Class: Alerts, Broadcast: true},
	{Kind: "sim-custody.recollected-from-promoter", Class: Alerts, Broadcast: true},
	{Kind: "sim-custody.rejected-acknowledged", Class: Alerts, Broadcast: true},
	{Kind: "sale-verification.reviewed", Class: Alerts, Broadcast: true, Subject: "saleVerificationId"},

	// Terminals under command.
	{Kind: "tpv_command", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_command_send", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_command_sent", Class: Service, Broadcast: true},
	{Kind: "tpv_command_cancelled", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_command_status_changed", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_command_queued", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_command_response", Class: Service, Broadcast: true, Subject: "commandId"},
	{Kind: "tpv_bulk_operation_progress", Class: Service, Broadcast: true, Subject: "operationId"},
	{Kind: "tpv_status_update", Class: Service, Broadcast: true, Subject: "terminalId"},
	{Kind: "terminal_config_changed", Class: Service, Broadcast: true, Subject: "terminalId"},

	// Menu, stock, hardware, billing.
	{Kind: "menu_updated", Class: Service, Broadcast: true},
	{Kind: "menu_item_created", Class: Service, Broadcast: true, Subject: "itemId"},
	{Kind: "menu_item_updated", Class: Service, Broadcast: true, Subject: "itemId"},
	{Kind: "menu_item_deleted", Class: Service, Broadcast: true, Subject: "itemId"},
	{Kind: "menu_item_availability_changed", Class: Service, Broadcast: true, Subject: "itemId"},
	{Kind: "menu_category_updated", Class: Service, Broadcast: true, Subject: "categoryId"},
	{Kind: "menu_category_deleted", Class: Service, Broadcast: true, Subject: "categoryId"},
	{Kind: "product_price_changed", Class: Service, Broadcast: true, Subject: "productId"},
	{Kind: "inventory_low_stock", Class: Service, Broadcast: true, Subject: "rawMaterialId"},
	{Kind: "inventory_out_of_stock", Class: Service, Broadcast: true, Subject: "rawMaterialId"},
	{Kind: "inventory_updated", Class: Service, Broadcast: true, Subject: "rawMaterialId"},
	{Kind: "printer_status", Class: Service, Broadcast: true, Subject: "terminalId"},
	{Kind: "card_reader_status", Class: Service, Broadcast: true, Subject: "terminalId"},
	{Kind: "peripheral_error", Class: Service, Broadcast: true, Subject: "terminalId"},
	{Kind: "print_job_synced", Class: Service, Broadcast: true},
	{Kind: "print_job_failed", Class: Service, Broadcast: true},
	{Kind: "subscription.activated", Class: Service, Broadcast: true, Subject: "subscriptionId"},
	{Kind: "subscription.deactivated", Class: Service, Broadcast: true, Subject: "subscriptionId"},
	{Kind: "tokens.purchased", Class: Service, Broadcast: true, Subject: "invoiceId"},
	{Kind: "tokens.purchase_failed", Class: Service, Broadcast: true, Subject: "invoiceId"},

	// Telemetry: the only side road. The first two are what terminals send,
	// the other two what the venue hears of it (contract §3.10).
	{Kind: TPVLog, Class: Telemetry, Volatile: true, Senders: Roles()},
	{Kind: TPVHeartbeat, Class: Telemetry, Volatile: true, Senders: Roles()},
	{Kind: TerminalLog, Class: Telemetry, Volatile: true},
	{Kind: TerminalHeartbeat, Class: Telemetry, Volatile: true},
}

var byKind = func() map[Kind]*Row {
	m := make(map[Kind]*Row, len(catalogue))
	for i := range catalogue {
		m[catalogue[i].Kind] = &catalogue[i]
	}
	return m
}()

// Lookup returns the row of a kind. The row is shared; do not change it.
func Lookup(k Kind) (*Row, bool) {
	r, ok := byKind[k]
	return r, ok
}

// Catalogue returns a copy of the whole table.
func Catalogue() []Row { return append([]Row(nil), catalogue[:]...) }
