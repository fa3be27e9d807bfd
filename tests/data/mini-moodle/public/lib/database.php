<?php
declare(strict_types=1);

/** The site's tables behind two ports: one for everything, one that is only read from. */
final class database
{
    private mysqli $writer;
    private ?mysqli $reader = null;
    /** What this request has written must be read where it was written. */
    private bool $written = false;

    public function __construct(private stdClass $cfg)
    {
        mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
        $this->writer = $this->connect($cfg->dbhost, $cfg->dboptions['dbport']);
    }

    private function connect(string $host, int $port): mysqli
    {
        return new mysqli($host, $this->cfg->dbuser, $this->cfg->dbpass, $this->cfg->dbname, $port);
    }

    /** Runs a statement; `{name}` is the table of that name with the site's prefix. */
    private function run(mysqli $connection, string $sql, array $values): mysqli_result|bool
    {
        return $connection->execute_query(preg_replace('/\{([a-z_]+)\}/', $this->cfg->prefix . '$1', $sql), $values);
    }

    public function write(string $sql, array $values = []): void
    {
        $this->written = true;
        $this->run($this->writer, $sql, $values);
    }

    /** Rows changed by one statement, which is what makes a row a lock. */
    public function take(string $sql, array $values = []): bool
    {
        $this->write($sql, $values);
        return $this->writer->affected_rows === 1;
    }

    public function read(string $sql, array $values = []): array
    {
        return $this->run($this->written ? $this->writer : $this->reader(), $sql, $values)->fetch_all(MYSQLI_ASSOC);
    }

    /** Reads where writes go, for what must not be a moment old. */
    public function read_fresh(string $sql, array $values = []): array
    {
        return $this->run($this->writer, $sql, $values)->fetch_all(MYSQLI_ASSOC);
    }

    private function reader(): mysqli
    {
        $replica = $this->cfg->dboptions['readonly']['instance'][0];
        try {
            return $this->reader ??= $this->connect($replica['dbhost'], $replica['dbport']);
        } catch (mysqli_sql_exception) {
            return $this->writer;
        }
    }

    public function tables(): array
    {
        return array_column($this->read_fresh('SHOW TABLES'), null);
    }

    public function setting(string $name): ?string
    {
        return $this->read_fresh('SELECT value FROM {config} WHERE name = ?', [$name])[0]['value'] ?? null;
    }

    public function set(string $name, string $value): void
    {
        $this->write('INSERT INTO {config} (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = ?', [$name, $value, $value]);
    }

    /** Names of the servers behind the two ports. */
    public function servers(): array
    {
        $name = 'SELECT @@wsrep_node_name AS name';
        return [
            'writer' => $this->run($this->writer, $name, [])->fetch_column(),
            'reader' => $this->run($this->reader(), $name, [])->fetch_column(),
        ];
    }
}
