package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/avoqado/avoqado-edge/internal/config"
)

func newConfigInit(s Streams) *cobra.Command {
	var (
		answers config.Answers
		out     string
		force   bool
	)
	cmd := &cobra.Command{
		Use: "init", Short: "Write a commented configuration, and a secret beside it", Args: cobra.NoArgs,
		Long: `Writes every key with its default and what it means. The secret goes to a file
of its own, access_token_secret, readable by its owner only: that of the
environment's ACCESS_TOKEN_SECRET if set, so that the tokens terminals hold
today are accepted, else a fresh one, which the back-end must then be given.
With --out - the configuration is printed, and no secret is written.`,
		Example: "  avoqado-edge config init --venue v1 --broker tls://mqtt.example.com:8883 --out config.yaml",
	}
	flags := cmd.Flags()
	flags.StringVar(&answers.Venue, "venue", "", "venue id (needed)")
	flags.StringVar(&answers.ID, "box", "", "box id (default: made at the first start)")
	flags.StringVar(&answers.Name, "name", "", "name for people")
	flags.StringSliceVar(&answers.Brokers, "broker", nil, "broker URL (repeatable; none: no cloud)")
	flags.StringVar(&out, "out", defaultConfig, "file to write")
	flags.BoolVar(&force, "force", false, "replace files that are there, the secret too")
	cmd.RunE = func(*cobra.Command, []string) error {
		if answers.Venue == "" {
			return usagef("--venue is needed")
		}
		answers.Secret = os.Getenv("ACCESS_TOKEN_SECRET")
		if out != "-" {
			if err := writeConfig(out, answers, "", force); err != nil {
				return err
			}
			dir, err := filepath.Abs(filepath.Dir(out))
			if err != nil {
				return err
			}
			p := &printer{w: s.Out}
			p.line("Wrote %s and %s.", out, filepath.Join(dir, secretName))
			if out == defaultConfig { // the service's
				p.line("Next: the back-end's secret into the latter, then systemctl restart avoqado-edge")
			} else {
				p.line("Next: avoqado-edge config check --config %s, then avoqado-edge run --config %s", out, out)
			}
			return p.err
		}
		answers.SecretFile = filepath.Join(filepath.Dir(defaultConfig), secretName)
		file, _, err := config.Init(answers)
		if err != nil {
			return err
		}
		_, err = s.Out.Write(file)
		return err
	}
	return cmd
}

// The files beside the configuration that hold secrets, named as the unit hands
// them over (systemd/avoqado-edge.service).
const (
	secretName   = "access_token_secret"
	passwordName = "mqtt_password"
)

// writeConfig writes a configuration and its secrets beside it: all, or none of
// them if one is there already and force does not say to replace them. The
// configuration comes last, since a box without one waits for it.
func writeConfig(out string, answers config.Answers, password string, force bool) error {
	dir, err := filepath.Abs(filepath.Dir(out))
	if err != nil {
		return err
	}
	answers.SecretFile = filepath.Join(dir, secretName)
	passwordFile := filepath.Join(dir, passwordName)
	if password != "" {
		answers.PasswordFile = passwordFile
	}
	file, secret, err := config.Init(answers)
	if err != nil {
		return err
	}
	if !force {
		// A new secret beside an old configuration would shut the terminals out.
		for _, path := range []string{out, answers.SecretFile, answers.PasswordFile} {
			if _, err := os.Lstat(path); path != "" && err == nil {
				return thereAlready(path)
			}
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a configuration folder is no secret
		return err
	}
	if err := writeNew(answers.SecretFile, secret, 0o600, force); err != nil {
		return err
	}
	switch {
	case password != "":
		err = writeNew(passwordFile, []byte(password+"\n"), 0o600, force)
	case force && answers.Username == "": // the service would be given the old one, and refuse it
		if err = os.Remove(passwordFile); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return writeNew(out, file, 0o644, force)
}

func thereAlready(path string) error {
	return usagef("%s is there already: remove it, or use --force", path)
}

// writeNew writes a file that must not be there yet, unless force says so: what is
// there stays as it is until all of the new one is on disk.
func writeNew(path string, content []byte, mode fs.FileMode, force bool) error {
	if _, err := os.Lstat(path); err == nil && !force {
		return thereAlready(path)
	}
	return writeFile(context.Background(), path, func(_ context.Context, f *os.File) error {
		_, err := f.Write(content)
		return errors.Join(err, f.Chmod(mode))
	})
}
