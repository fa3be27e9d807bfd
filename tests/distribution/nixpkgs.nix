# Stands in for nixpkgs: as much of its shape as the flake uses, made of nothing but what Nix has built in. What would be
# built is a derivation that is never built. Functions take no argument that those of nixpkgs do not have.
{
  outputs =
    { ... }:
    let
      system = "x86_64-linux";
      derivationOf =
        name: rest:
        derivation (
          {
            inherit name system;
            builder = "/bin/false";
          }
          // rest
        );
      quoted = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";
      lib = {
        licenses = {
          mit.spdxId = "MIT";
          asl20.spdxId = "Apache-2.0";
        };
        optionals = condition: list: if condition then list else [ ];
        concatStringsSep = builtins.concatStringsSep;
        escapeShellArgs = words: builtins.concatStringsSep " " (map quoted words);
        # A fileset is a list of paths here, each of which has to exist.
        fileset = {
          unions =
            paths:
            assert builtins.all builtins.pathExists paths;
            paths;
          toSource = { root, fileset }: builtins.seq (builtins.length fileset) root;
        };
      };
      pkgs = {
        inherit lib;
        rustPlatform.buildRustPackage =
          {
            pname,
            version,
            src,
            cargoLock,
            doCheck ? true,
            meta ? { },
          }:
          assert builtins.pathExists cargoLock.lockFile;
          derivationOf "${pname}-${version}" {
            inherit src doCheck;
          }
          // {
            inherit meta version;
          };
        runCommand = name: environment: script: derivationOf name (environment // { inherit script; });
        writeShellApplication =
          {
            name,
            text,
            runtimeInputs ? [ ],
          }:
          derivationOf name { inherit text runtimeInputs; };
        mkShell = { packages ? [ ], inputsFrom ? [ ] }: derivationOf "shell" { inherit packages inputsFrom; };
      }
      // builtins.listToAttrs (
        map
          (name: {
            inherit name;
            value = derivationOf name { };
          })
          [
            "cargo-deny"
            "clippy"
            "jq"
            "mdbook"
            "nixfmt-tree"
            "rustfmt"
            "shellcheck"
          ]
      );
    in
    {
      legacyPackages.${system} = pkgs;
    };
}
