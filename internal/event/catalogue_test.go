package event

import (
	"slices"
	"strings"
	"testing"
)

func TestCatalogueIsSound(t *testing.T) {
	seen := map[Kind]bool{}
	for _, r := range Catalogue() {
		if seen[r.Kind] {
			t.Errorf("%s stands twice", r.Kind)
		}
		seen[r.Kind] = true
		if got, ok := Lookup(r.Kind); !ok || got.Kind != r.Kind {
			t.Errorf("Lookup(%s) = %v, %t", r.Kind, got, ok)
		}
		if r.Class.String() == "unknown" {
			t.Errorf("%s has no class", r.Kind)
		}
		for what, roles := range map[string][]Role{"senders": r.Senders, "roles that hear it": r.AlsoRoles} {
			// Contract C14: the existing system forgot its owners.
			if slices.Contains(roles, Admin) != slices.Contains(roles, Owner) {
				t.Errorf("%s: ADMIN and OWNER differ among %s", r.Kind, what)
			}
			if slices.ContainsFunc(roles, func(role Role) bool { return !role.Known() }) {
				t.Errorf("%s: unknown role among %s", r.Kind, what)
			}
		}
		if r.Replay > 0 && !r.Broadcast {
			t.Errorf("%s is replayed and nobody may send it out", r.Kind)
		}
		if r.Volatile && (r.Replay > 0 || r.Broadcast || r.Class != Telemetry) {
			t.Errorf("%s is volatile and promises to last", r.Kind)
		}
		if !r.Volatile && r.Class == Telemetry {
			t.Errorf("%s is telemetry and stored", r.Kind)
		}
		if (r.Class == Money) != (strings.Contains(string(r.Kind), "payment") || strings.Contains(string(r.Kind), "refund") || r.Kind == LeaseUsed) {
			t.Errorf("%s is of class %s", r.Kind, r.Class)
		}
		business := r.Family == Payment || r.Family == Order || r.Family == Alert
		if business != (r.Type != "") || (business && len(r.Identity) == 0) {
			t.Errorf("%s: family %d, type %q, identity %v", r.Kind, r.Family, r.Type, r.Identity)
		}
		if r.Inbound && (r.Broadcast || r.Replay > 0) {
			t.Errorf("%s is for nobody to hear and goes out", r.Kind)
		}
		if r.Terminal && !slices.Equal(r.Senders, Roles()) {
			t.Errorf("%s: a terminal may be run by any role", r.Kind)
		}
		if r.FromClients() && !r.Volatile && r.Done == "" && !strings.HasPrefix(string(r.Kind), "terminal:") {
			t.Errorf("%s has no words of success", r.Kind)
		}
		if r.Alias != "" {
			if to, ok := Resolve(r.Kind); !ok || to.Kind != r.Alias || to.Alias != "" {
				t.Errorf("%s is another name of %q", r.Kind, r.Alias)
			}
		}
		if r.Refresh != "" {
			if _, ok := Lookup(r.Refresh); !ok {
				t.Errorf("%s is followed by an unknown %s", r.Kind, r.Refresh)
			}
		}
		if r.Latest && r.Replay == 0 {
			t.Errorf("%s: the latest of what is never replayed", r.Kind)
		}
	}
	if _, ok := Lookup("nobody:knows"); ok {
		t.Error("an unknown kind has a row")
	}
	Catalogue()[0].Kind = "changed"
	if catalogue[0].Kind == "changed" {
		t.Error("Catalogue gives its own table away")
	}
}

// Every event that contract §1–§4 and §11 C name, in either direction, and the
// box's own sync_status, sync_required and auth:lease_used.
func TestCatalogueIsComplete(t *testing.T) {
	const contract = `
		authenticate authentication_success authentication_error
		join_room leave_room joinVenueRoom leaveVenueRoom room_joined room_left error rate_limit_exceeded sync_status sync_required
		payment_initiated payment_processing payment_completed payment_failed
		crypto:payment_confirmed crypto:payment_failed
		order_created order_updated order_status_changed order_deleted
		system_alert
		table_status_change venue_update shift_opened shift_closed shift_updated
		notification_new notification_count_updated notification_read notification_deleted notification:updated
		tpv_command tpv_command_sent tpv_command_send tpv_command_cancelled tpv_command_status_changed
		tpv_command_queued tpv_bulk_operation_progress tpv_status_update tpv_command_response
		tpv_command_ack tpv_command_started tpv_command_progress tpv_command_result
		tpv_message tpv_message_cancelled tpv_message_ack tpv_message_response
		terminal:payment_request terminal:payment_cancel terminal:payment_probe terminal:refund_request
		terminal:print_receipt_request terminal:payment_outcome terminal:payment_result
		terminal:payment_cancel_disposition terminal:payment_probe_result terminal:payment_attempt_opened
		terminal:print_receipt_result terminal:refund_result
		tpv:log terminal:log tpv:heartbeat terminal:heartbeat
		menu_updated menu_item_created menu_item_updated menu_item_deleted product_price_changed
		menu_item_availability_changed menu_category_updated menu_category_deleted
		inventory_low_stock inventory_out_of_stock inventory_updated
		printer_status card_reader_status peripheral_error print_job_synced print_job_failed
		terminal_config_changed subscription.activated subscription.deactivated
		tokens.purchased tokens.purchase_failed
		sim-custody.assigned-to-promoter sim-custody.recollected-from-promoter sim-custody.rejected-acknowledged
		sale-verification.reviewed updateDashboard shiftUpdate
		auth:lease_used`
	names := strings.Fields(contract)
	for _, name := range names {
		if _, ok := Lookup(Kind(name)); !ok {
			t.Errorf("%s has no row", name)
		}
	}
	for _, r := range Catalogue() {
		if !slices.Contains(names, string(r.Kind)) {
			t.Errorf("%s is in the table and not in the contract", r.Kind)
		}
	}
}
