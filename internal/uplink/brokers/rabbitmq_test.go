package brokers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/avoqado/avoqado-edge/internal/cloud"
)

// TestRabbitMQCommands runs what configs/README.md has an administrator type.
func TestRabbitMQCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a RabbitMQ")
	}
	r := StartRabbitMQ(t)
	types := func(program string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(r.program), program), args...)
		cmd.Env = r.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %s: %v\n%s", program, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	speaks := func(password string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		access := r.Access(Backend)
		access.Password = password
		return cloud.SendBroadcast(ctx, access, cloud.Prefix(Venue), cloud.Broadcast{
			ID: "for-practice", Event: "menu_updated", Payload: json.RawMessage(`{}`),
		})
	}
	types("rabbitmq-plugins", "enable", "rabbitmq_mqtt")
	types("rabbitmqctl", "change_password", Backend, "another")
	if speaks(Password) == nil {
		t.Error("the old password is good")
	}
	if err := speaks("another"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	path := filepath.Join(t.TempDir(), "now.json")
	types("rabbitmqctl", "export_definitions", path)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var now struct {
		Users []struct {
			Name         string
			PasswordHash []byte `json:"password_hash"`
		}
	}
	if err := json.Unmarshal(raw, &now); err != nil {
		t.Fatal(err)
	}
	for _, user := range now.Users {
		if user.Name != Backend {
			continue
		}
		salt := user.PasswordHash[:4]
		if sum := sha256.Sum256(append(salt[:4:4], "another"...)); !bytes.Equal(sum[:], user.PasswordHash[4:]) {
			t.Errorf("the definitions hold another hash: %x", user.PasswordHash)
		}
		return
	}
	t.Errorf("the definitions do not name %s: %s", Backend, raw)
}
