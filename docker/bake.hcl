# Builds both images with one command, run at the root of the repository:
#
#   export REVISION=$(git rev-parse HEAD)
#   docker buildx bake --file docker/bake.hcl
#   REGISTRY=registry.example/chat/ docker buildx bake --file docker/bake.hcl --push release
#
# The group `release` needs a builder that supports multiple platforms and attestations:
#
#   docker buildx create --use

variable "REGISTRY" {
  default = ""
}

# The version in Cargo.toml.
variable "VERSION" {
  default = "0.1.0"
}

variable "REVISION" {
  default = ""
}

group "default" {
  targets = ["backend", "frontend"]
}

group "release" {
  targets = ["release-backend", "release-frontend"]
}

target "image" {
  context = "."
  args = {
    VERSION  = VERSION
    REVISION = REVISION
  }
}

target "backend" {
  inherits   = ["image"]
  dockerfile = "docker/backend.Dockerfile"
  tags       = ["${REGISTRY}smilingchat-backend:${VERSION}"]
}

target "frontend" {
  inherits   = ["image"]
  dockerfile = "docker/frontend.Dockerfile"
  tags       = ["${REGISTRY}smilingchat-frontend:${VERSION}"]
}

target "attested" {
  platforms = ["linux/amd64", "linux/arm64"]
  attest    = ["type=sbom", "type=provenance,mode=max"]
}

target "release-backend" {
  inherits = ["backend", "attested"]
}

target "release-frontend" {
  inherits = ["frontend", "attested"]
}
