package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/database"
)

func (g *global) databaseCommand() *cobra.Command {
	return group("database", "Backup of the manager's and enrollment's database", g.databaseBackup(), g.databaseRestored())
}

func (g *global) databaseBackup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Copy the SQLite database to a new file, while servers run",
		Long: `Copy the SQLite database of enrollment and manager to a new file. It is what
was committed at one moment; servers may go on meanwhile. For PostgreSQL use
pg_dump.

A backup is whole with the keys beside it: key_file of the manager, seal.key and
the CA's folder.`,
		Example: `  gatewayd database backup /var/backups/gatewayd-$(date +%F).db`,
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			db, _, err := g.openDatabase(c.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			if db.Engine != database.SQLite {
				return hinted{errors.New("the database is PostgreSQL"), "pg_dump -Fc copies it, while servers run."}
			}
			file := names[0]
			// Nobody else reads it, from its beginning on.
			f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			if _, err := db.ExecContext(c.Context(), `VACUUM INTO $1`, file); err != nil {
				return errors.Join(fmt.Errorf("copy to %s: %w", file, err), os.Remove(file))
			}
			if err := syncFile(file); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: the database as it is now\n", file)
			return err
		},
	}
}

// syncFile and its name.
func syncFile(file string) error {
	for _, path := range []string{file, filepath.Dir(file)} {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (g *global) databaseRestored() *cobra.Command {
	return &cobra.Command{
		Use:   "restored",
		Short: "Say that the database is a backup, before the manager starts",
		Long: `Say that the database was restored from a backup, after it was put in place and
before any manager starts. What was sent to devices since the backup isn't known:
commands that may run only once and wait become unknown, for their administrators
to decide; what policies gave to devices is sent to them again.

Gateways that are ahead of the backup are left alone until ` + "`gatewayd gateway epoch`" + `.`,
		Example: `  systemctl stop gatewayd-manager
  cd /var/lib/gatewayd/enrollment && rm -f enrollment.db-wal enrollment.db-shm
  cp /var/backups/gatewayd-2026-11-22.db enrollment.db
  gatewayd database restored
  systemctl start gatewayd-manager
  gatewayd gateway epoch`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			db, cfg, err := g.openDatabase(c.Context())
			if err != nil {
				return err
			}
			defer db.Close()
			dir := filepath.Dir(cfg.ManagerSocket())
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			lock, err := lockInstance(dir, "manager")
			if err != nil {
				return err
			}
			defer lock.release()
			s, err := store.New(c.Context(), db, store.Options{})
			if err != nil {
				return err
			}
			n, err := s.AfterRestore(c.Context())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%d commands that run once are unknown now; policies are sent again\n", n)
			return err
		},
	}
}

// openDatabase of the manager, or of enrollment alone; it has to be there.
func (g *global) openDatabase(ctx context.Context) (*database.DB, *config.Config, error) {
	cfg, err := config.Load(g.config)
	if err != nil {
		return nil, nil, err
	}
	role := "manager"
	if !cfg.Has(role) {
		role = "enrollment"
	}
	if err := cfg.Require(role); err != nil {
		return nil, nil, err
	}
	source := databaseOf(cfg, []string{role})
	if source.Postgres == "" {
		if _, err := os.Stat(source.File); err != nil {
			return nil, nil, fmt.Errorf("database: %w", err)
		}
	}
	source.Connections = 2
	db, err := database.Open(ctx, source)
	return db, cfg, err
}
