# docs/nix.md says how to use it, and how far it was tried.
{
  description = "Appliance images for Proxmox VE: layered, locked, hermetic, reproducible";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { nixpkgs, ... }:
    let
      system = "x86_64-linux";
      pkgs = nixpkgs.legacyPackages.${system};
      inherit (pkgs) lib;

      cargo = builtins.fromTOML (builtins.readFile ./Cargo.toml);

      imgbuild = pkgs.rustPlatform.buildRustPackage {
        pname = cargo.package.name;
        inherit (cargo.package) version;
        # What is compiled, and nothing else. Two pages of the documentation are compiled in, and the images that
        # `imgbuild init` lays down.
        src = lib.fileset.toSource {
          root = ./.;
          fileset = lib.fileset.unions [
            ./Cargo.lock
            ./Cargo.toml
            ./docs/definition.md
            ./docs/overlay.md
            ./docs/policy.md
            ./images
            ./src
          ];
        };
        cargoLock.lockFile = ./Cargo.lock;
        # The tests build images and boot guests, for which the sandbox of Nix has too few user ids.
        doCheck = false;
        meta = {
          inherit (cargo.package) description;
          license = [
            lib.licenses.mit
            lib.licenses.asl20
          ];
          mainProgram = "imgbuild";
          platforms = [ system ];
        };
      };

      # A derivation that fails unless `imgbuild check` is content with the project. It needs neither network nor
      # namespaces, so it works in the sandbox of Nix.
      checkProject =
        project:
        pkgs.runCommand "imgbuild-check" { nativeBuildInputs = [ imgbuild ]; } ''
          imgbuild check --project ${project} --store "$TMPDIR/store"
          touch "$out"
        '';

      # A program that builds the roles of a project as it is now. It is not a derivation with the artifacts, since no
      # build can take place in the sandbox of Nix: docs/nix.md.
      buildImage =
        {
          project,
          roles,
          site ? null,
          formats ? [ ],
          name ? "build-${lib.concatStringsSep "-" roles}",
        }:
        let
          options =
            lib.optionals (site != null) [
              "--site"
              site
            ]
            ++ lib.optionals (formats != [ ]) [
              "--format"
              (lib.concatStringsSep "," formats)
            ];
        in
        pkgs.writeShellApplication {
          inherit name;
          runtimeInputs = [ imgbuild ];
          text = ''
            exec imgbuild build ${lib.escapeShellArgs (roles ++ options)} --project ${project} "$@"
          '';
        };
    in
    {
      packages.${system}.default = imgbuild;

      apps.${system}.default = {
        type = "app";
        program = "${imgbuild}/bin/imgbuild";
        meta = { inherit (cargo.package) description; };
      };

      devShells.${system}.default = pkgs.mkShell {
        inputsFrom = [ imgbuild ];
        packages = [
          pkgs.cargo-deny
          pkgs.clippy
          pkgs.jq
          pkgs.mdbook
          pkgs.rustfmt
          pkgs.shellcheck
        ];
      };

      lib = { inherit buildImage checkProject; };

      checks.${system} = {
        package = imgbuild;
        project = checkProject (
          lib.fileset.toSource {
            root = ./.;
            fileset = lib.fileset.unions [
              ./images
              ./imgbuild.lock
              ./overlays
            ];
          }
        );
      };

      formatter.${system} = pkgs.nixfmt-tree;
    };
}
