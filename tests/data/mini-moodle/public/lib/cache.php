<?php
declare(strict_types=1);

namespace core_cache;

final class store
{
    const MODE_APPLICATION = 1;
    const MODE_SESSION = 2;
    const MODE_REQUEST = 4;
}

final class factory
{
    public static function reset(): void
    {
    }
}

/** Keeps in a file which store each kind of cache is in. */
final class config_writer
{
    private array $configuration = ['stores' => ['default_session' => [], 'default_request' => []], 'mappings' => []];

    public static function instance(): self
    {
        return new self();
    }

    public static function create_default_configuration(bool $force): void
    {
        (new self())->save();
    }

    public function add_store_instance(string $name, string $plugin, array $configuration): void
    {
        $plugin === 'redis' || throw new \Exception("no such store: $plugin");
        $this->configuration['stores'][$name] = $configuration;
        self::connect($configuration)->ping();
        $this->save();
    }

    public function set_mode_mappings(array $mappings): void
    {
        foreach (array_merge(...array_values($mappings)) as $store) {
            isset($this->configuration['stores'][$store]) || throw new \Exception("no such store: $store");
        }
        $this->configuration['mappings'] = $mappings;
        $this->save();
    }

    public function update_site_identifier(string $identifier): void
    {
        $this->configuration['siteidentifier'] = md5($identifier);
        $this->save();
    }

    public static function connect(array $configuration): \Redis
    {
        [$host, $port] = explode(':', $configuration['server']);
        $server = new \Redis();
        $server->connect($host, (int) $port, $configuration['connectiontimeout']);
        $configuration['password'] === '' || $server->auth($configuration['password']);
        $server->setOption(\Redis::OPT_SERIALIZER, $configuration['serializer']);
        $server->setOption(\Redis::OPT_PREFIX, $configuration['prefix']);
        return $server;
    }

    private function save(): void
    {
        global $CFG;
        $file = "{$CFG->altcacheconfigpath}/cacheconfig.php";
        file_put_contents($file, '<?php $configuration = ' . var_export($this->configuration, true) . ';');
    }
}

/** The application cache. */
function application(): \Redis
{
    global $CFG;
    require "{$CFG->altcacheconfigpath}/cacheconfig.php";
    return config_writer::connect($configuration['stores'][$configuration['mappings'][store::MODE_APPLICATION][0]]);
}
